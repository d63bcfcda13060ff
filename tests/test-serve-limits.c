/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has a turn where not all can: limits and priorities. What is counted are rounds, as the sweep
 * finds after a while whoever has been forgotten. */
#include <fcntl.h>

#include "test-serve.h"

/* Rounds in which a fair loop has done everything that these tests leave it to do. */
#define ENOUGH 60

/* As long as the sweep goes on, something happens more often. */
#define SWEEP_US 50000

static void
run_rounds (Stage *stage, guint n)
{
  while (n-- > 0)
    round_of (stage, FALSE);
}

/* A limit leaves some over, which nobody tells of again. */
static void
test_limit_loses_no_turn (gconstpointer nested)
{
  Stage stage;
  GMainContext *inners[5];
  guint calls = 0, busy = 0;

  stage_begin (&stage, nested);
  gaio_context_set_dispatch_limits (stage.context, 1, 0);
  attach_idle (stage.inner, 0, count_again, &busy);
  for (guint i = 0; i < G_N_ELEMENTS (inners); i++)
    inners[i] = gaio_context_create_main_context (stage.context, NULL, NULL);
  run_rounds (&stage, ENOUGH);
  for (guint i = 0; i < G_N_ELEMENTS (inners); i++)
    attach_idle (inners[i], 0, count_and_stop, &calls);
  run_rounds (&stage, ENOUGH);
  g_assert_cmpuint (calls, ==, G_N_ELEMENTS (inners));
  g_assert_cmpuint (busy, >, ENOUGH / 4);
  for (guint i = 0; i < G_N_ELEMENTS (inners); i++)
    g_main_context_unref (inners[i]);
  stage_end (&stage);
}

/* One callback a round: what was told by the kernel, and those that are to have a turn anyway. */
static void
test_limit_lets_handlers_and_turns_alternate (gconstpointer nested)
{
  Stage stage;
  gint fds[2];
  guint handled[2] = { 0 }, turns[2] = { 0 };
  GaioHandler *handlers[2];
  g_autoptr (GMainContext) other = NULL;

  stage_begin (&stage, nested);
  other = gaio_context_create_main_context (stage.context, NULL, NULL);
  settle (&stage);
  gaio_context_set_dispatch_limits (stage.context, 1, 0);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = eventfd_new (1);
      handlers[i] = add_fd (stage.context, fds[i], G_IO_IN, count_fd, &handled[i], NULL);
    }
  attach_idle (stage.inner, 0, count_again, &turns[0]);
  attach_idle (other, 0, count_again, &turns[1]);
  run_rounds (&stage, ENOUGH);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      g_assert_cmpuint (handled[i], >, ENOUGH / 10);
      g_assert_cmpuint (turns[i], >, ENOUGH / 10);
      gaio_clear_handler (&handlers[i]);
      close (fds[i]);
    }
  stage_end (&stage);
}

static gboolean
count_ready (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

/* Files that are always ready are reported some at a time, and the limit drops some of these. */
static void
test_limit_passes_over_no_file_that_is_always_ready (gconstpointer nested)
{
  Stage stage;
  gint fds[4];
  guint turns = 0, calls[4] = { 0 };
  GMainContext *inners[4];

  stage_begin (&stage, nested);
  settle (&stage);
  gaio_context_set_dispatch_limits (stage.context, 1, 0);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      inners[i] = gaio_context_create_main_context (stage.context, NULL, NULL);
      fds[i] = open ("/dev/null", O_RDONLY | O_CLOEXEC);
      attach_fd (inners[i], fds[i], count_ready, &calls[i]);
    }
  attach_idle (stage.inner, 0, count_again, &turns);
  run_rounds (&stage, 2 * ENOUGH);
  g_assert_cmpuint (turns, >, ENOUGH / 10);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      g_assert_cmpuint (calls[i], >, ENOUGH / 10);
      g_main_context_unref (inners[i]);
    }
  stage_end (&stage);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
}

/* --- Priorities lower than that of the context's source --- */

static void
test_low_priority_moves_along (void)
{
  for (guint n_rounds = 0; n_rounds < 6; n_rounds++)
    {
      Stage stage;
      guint calls = 0, before;
      GMainContext *old;

      stage_begin (&stage, "nested");
      attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_again, &calls);
      run_rounds (&stage, n_rounds);
      old = g_steal_pointer (&stage.outer);
      gaio_context_detach (stage.context);
      stage.outer = g_main_context_new ();
      attach (stage.context, stage.outer);
      before = calls;
      run_rounds (&stage, ENOUGH);
      g_assert_cmpuint (calls, >, before + 2);
      g_main_context_unref (old);
      stage_end (&stage);
    }
}

typedef struct
{
  Stage *stage;
  guint calls;
  guint lows;
} Nest;

static gboolean
run_without_glib (gpointer data)
{
  Nest *nest = data;
  GaioContext *context = nest->stage->context;
  GaioTimer *guard = gaio_context_add_timer (context, expired_once, (gpointer) "low", NULL);

  nest->calls++;
  gaio_timer_arm (guard, GUARD_US);
  attach_idle (nest->stage->inner, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &nest->lows);
  while (nest->lows == 0)
    gaio_context_iterate (context, -1);
  gaio_clear_timer (&guard);
  return G_SOURCE_REMOVE;
}

/* Nobody runs the main context that it would wait for. The sweep, which would look at it, is over.
 */
static void
test_low_priority_goes_on_in_a_round_inside_of_a_turn (void)
{
  Stage stage;
  Nest nest = { &stage };

  stage_begin (&stage, "nested");
  while (gaio_context_iterate (stage.context, 4 * SWEEP_US))
    ;
  attach_idle (stage.inner, 0, run_without_glib, &nest);
  run_rounds (&stage, 3);
  g_assert_cmpuint (nest.calls, ==, 1);
  g_assert_cmpuint (nest.lows, ==, 1);
  stage_end (&stage);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);

  add_both ("/serve-limits/limit-loses-no-turn", test_limit_loses_no_turn);
  add_both ("/serve-limits/limit-lets-handlers-and-turns-alternate",
            test_limit_lets_handlers_and_turns_alternate);
  add_both ("/serve-limits/limit-passes-over-no-file-that-is-always-ready",
            test_limit_passes_over_no_file_that_is_always_ready);
  g_test_add_func ("/serve-limits/low-priority-moves-along", test_low_priority_moves_along);
  g_test_add_func ("/serve-limits/low-priority-goes-on-in-a-round-inside-of-a-turn",
                   test_low_priority_goes_on_in_a_round_inside_of_a_turn);

  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What comes between the turns of an inner context: calls, iterations and owners. */
#include <fcntl.h>

#include "test-serve.h"

typedef struct
{
  Stage *stage;
  GString *log;
  guint calls;
} Round;

static gboolean
run_a_round (gpointer data)
{
  Round *story = data;

  story->calls++;
  gaio_context_iterate (story->stage->context, 0);
  return G_SOURCE_CONTINUE;
}

/* The round finds the source running, and nobody says when it is not any more. */
static void
test_iteration_outlasts_a_round (void)
{
  Stage stage;
  Round story = { &stage };

  stage_begin (&stage, NULL);
  settle (&stage);
  attach_idle (stage.inner, 0, run_a_round, &story);
  g_main_context_iteration (stage.inner, FALSE);
  g_assert_cmpuint (story.calls, ==, 1);
  until (&stage, story.calls == 3);
  stage_end (&stage);
}

static gboolean
wait_for_other (gpointer data)
{
  Round *story = data;

  until (story->stage, story->calls > 0);
  return G_SOURCE_REMOVE;
}

/* The turn that runs was to call both, and nobody tells of the second one again. */
static void
test_what_is_ready_goes_on_in_a_nested_loop (gconstpointer nested)
{
  Stage stage;
  Round story = { &stage };

  stage_begin (&stage, nested);
  attach_idle (stage.inner, 0, wait_for_other, &story);
  attach_idle (stage.inner, 0, count_and_stop, &story.calls);
  until (&stage, story.calls == 1);
  settle (&stage);
  g_assert_cmpuint (story.calls, ==, 1);
  stage_end (&stage);
}

static gboolean
close_number (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  g_assert_cmpint (close (fd), ==, 0);
  return G_SOURCE_REMOVE;
}

static gboolean
note_condition (gint fd, GIOCondition condition, gpointer data)
{
  *(guint *) data |= condition;
  return G_SOURCE_REMOVE;
}

/* The one that goes was the only one that waited for what is always so. */
static void
test_closed_file_that_was_always_ready_is_told (gconstpointer nested)
{
  Stage stage;
  guint calls = 0, told = 0;
  gint fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  g_autoptr (GSource) other = g_unix_fd_source_new (fd, G_IO_PRI);

  stage_begin (&stage, nested);
  g_source_set_callback (other, G_SOURCE_FUNC (note_condition), &told, NULL);
  g_source_attach (other, stage.inner);
  attach_fd (stage.inner, fd, close_number, &calls);
  for (guint i = 0; i < 20; i++)
    round_of (&stage, FALSE);
  g_assert_cmpuint (calls, ==, 1);
  g_assert_cmpuint (told, ==, G_IO_NVAL);
  stage_end (&stage);
}

/* It is ready when the owner goes, which nobody has found out yet. */
static void
test_fd_ready_when_the_owner_goes_is_told (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (1);
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  GMainContext *inner;

  stage_begin (&stage, nested);
  inner = gaio_context_create_main_context (stage.context, owner, NULL);
  attach_fd (inner, fd, take_fd, &calls);
  g_object_unref (owner);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  g_main_context_unref (inner);
  stage_end (&stage);
  close (fd);
}

/* No round has seen the wake-up. */
static void
test_attached_before_the_owner_goes_is_called (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  GMainContext *inner;

  stage_begin (&stage, nested);
  inner = gaio_context_create_main_context (stage.context, owner, NULL);
  settle (&stage);
  attach_idle (inner, 0, count_and_stop, &calls);
  g_object_unref (owner);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  g_main_context_unref (inner);
  stage_end (&stage);
}

/* --- What a turn costs --- */

typedef struct
{
  GSource parent;
  guint checks;
} CountingSource;

static gboolean
counting_check (GSource *source)
{
  ((CountingSource *) source)->checks++;
  return FALSE;
}

/* What GLib writes to the wake-up fd in a turn makes no other one. */
static void
test_event_is_one_turn (gconstpointer nested)
{
  static GSourceFuncs funcs = { .check = counting_check };
  Stage stage;
  g_autoptr (GSource) source = g_source_new (&funcs, sizeof (CountingSource));
  guint calls = 0, before;
  gint fd = eventfd_new (0);

  stage_begin (&stage, nested);
  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_attach (source, stage.inner);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  for (guint i = 1; i <= 5; i++)
    {
      before = ((CountingSource *) source)->checks;
      eventfd_add (fd);
      until (&stage, calls == i);
      settle (&stage);
      g_assert_cmpuint (((CountingSource *) source)->checks, ==, before + 1);
    }
  stage_end (&stage);
  close (fd);
}

/* --- Who is first --- */

static gboolean
mark_and_stop (gpointer data)
{
  mark_once (data);
  return G_SOURCE_REMOVE;
}

static gboolean
mark_fd_and_take (gint fd, GIOCondition condition, gpointer data)
{
  eventfd_take (fd);
  return mark_fd (fd, condition, data);
}

static void
test_served_once_more_keeps_priorities (gconstpointer nested)
{
  Stage stage;
  GString *log = g_string_new (NULL);
  Mark low = { log, 'l' }, high = { log, 'h' };
  g_autoptr (GError) error = NULL;
  gint fd = eventfd_new (1);

  stage_begin (&stage, nested);
  attach_idle (stage.inner, 10, mark_and_stop, &low);
  while (!g_main_context_pending (stage.inner) || log->len > 0)
    round_of (&stage, FALSE);
  round_of (&stage, FALSE);
  attach_fd (stage.inner, fd, mark_fd_and_take, &high);
  g_assert_false (gaio_context_serve_main_context (stage.context, stage.inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  until (&stage, log->len == 2);
  g_assert_cmpstr (log->str, ==, "hl");
  g_string_free (log, TRUE);
  stage_end (&stage);
  close (fd);
}

/* The monitor is silent about its fds as long as another thread owns it. */
static void
test_let_go_of_keeps_priorities (gconstpointer nested)
{
  Stage stage;
  Holder holder = { NULL };
  GString *log = g_string_new (NULL);
  Mark low = { log, 'l' }, high = { log, 'h' };
  gint fd = eventfd_new (0);
  GThread *thread;

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, mark_fd_and_take, &high);
  settle (&stage);
  holder.inner = stage.inner;
  thread = g_thread_new ("holder", hold, &holder);
  while (!atomic_load (&holder.holds))
    sched_yield ();
  attach_idle (stage.inner, 10, mark_and_stop, &low);
  round_of (&stage, TRUE);
  eventfd_add (fd);
  atomic_store (&holder.lets_go, TRUE);
  g_thread_join (thread);
  until (&stage, log->len == 2);
  g_assert_cmpstr (log->str, ==, "hl");
  g_string_free (log, TRUE);
  stage_end (&stage);
  close (fd);
}

typedef struct
{
  Stage *stage;
  Mark high;
  gint fd;
} Caller;

static void
do_nothing (gpointer data)
{
}

/* A bottom half: after the kernel has been asked, and before any turn. */
static void
attach_and_call_in (gpointer data)
{
  Caller *caller = data;

  attach_fd (caller->stage->inner, caller->fd, mark_fd_and_take, &caller->high);
  gaio_context_call_in (caller->stage->context, caller->stage->inner, do_nothing, caller);
}

/* The turn follows in the same round, in which nobody has asked for the new fd. */
static void
test_called_before_its_turn_keeps_priorities (gconstpointer nested)
{
  Stage stage;
  GString *log = g_string_new (NULL);
  Mark low = { log, 'l' };
  Caller caller = { &stage, { log, 'h' }, eventfd_new (1) };

  stage_begin (&stage, nested);
  settle (&stage);
  gaio_context_defer (stage.context, attach_and_call_in, &caller, NULL);
  attach_idle (stage.inner, 10, mark_and_stop, &low);
  until (&stage, log->len == 2);
  g_assert_cmpstr (log->str, ==, "hl");
  g_string_free (log, TRUE);
  stage_end (&stage);
  close (caller.fd);
}

static void
drop_context (gpointer data)
{
  Stage *stage = data;

  g_clear_object (&stage->context);
}

static void
close_context (gpointer data)
{
  Stage *stage = data;

  gaio_context_close (stage->context);
}

/* Its sources go when the last reference to the inner context does. */
static void
test_context_that_ends_in_a_call_keeps_nothing (gconstpointer nested)
{
  GSourceOnceFunc const funcs[] = { close_context, drop_context };

  for (guint i = 0; i < G_N_ELEMENTS (funcs); i++)
    {
      Stage stage;
      guint ended = 0;
      g_autoptr (GSource) source = g_idle_source_new ();

      stage_begin (&stage, NULL);
      g_source_set_callback (source, count_and_stop, &ended, count_once);
      gaio_context_call_in (stage.context, stage.inner, funcs[i], &stage);
      g_source_attach (source, stage.inner);
      g_clear_pointer (&stage.inner, g_main_context_unref);
      g_assert_cmpuint (ended, ==, 1);
      g_clear_object (&stage.context);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/serve-turns/iteration-outlasts-a-round", test_iteration_outlasts_a_round);
  add_both ("/serve-turns/what-is-ready-goes-on-in-a-nested-loop",
            test_what_is_ready_goes_on_in_a_nested_loop);
  add_both ("/serve-turns/closed-file-that-was-always-ready-is-told",
            test_closed_file_that_was_always_ready_is_told);
  add_both ("/serve-turns/fd-ready-when-the-owner-goes-is-told",
            test_fd_ready_when_the_owner_goes_is_told);
  add_both ("/serve-turns/attached-before-the-owner-goes-is-called",
            test_attached_before_the_owner_goes_is_called);
  add_both ("/serve-turns/event-is-one-turn", test_event_is_one_turn);
  add_both ("/serve-turns/served-once-more-keeps-priorities",
            test_served_once_more_keeps_priorities);
  add_both ("/serve-turns/let-go-of-keeps-priorities", test_let_go_of_keeps_priorities);
  add_both ("/serve-turns/called-before-its-turn-keeps-priorities",
            test_called_before_its_turn_keeps_priorities);
  g_test_add_data_func ("/serve-turns/context-that-ends-in-a-call-keeps-nothing", NULL,
                        test_context_that_ends_in_a_call_keeps_nothing);

  return g_test_run ();
}

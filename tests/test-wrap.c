/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What must not happen when a counter of the library comes round. */

#define GAIO_COMPILATION
#include <fcntl.h>

#include "../gaio/gaio-core-private.h"
#include "test-support.h"

/* --- Gatherings, of which an entry remembers 32 bits --- */

/* As after that many. */
static void
set_gatherings (GaioContext *context, guint32 n)
{
  context->core->ready.gather_seq = n;
}

static guint32
get_gatherings (GaioContext *context)
{
  return (guint32) context->core->ready.gather_seq;
}

static gboolean
count_and_take_fd (gint fd, GIOCondition condition, gpointer calls)
{
  ++*(guint *) calls;
  g_assert_true (eventfd_take (fd));
  return G_SOURCE_CONTINUE;
}

static void
take_all (GaioReadySet *set, guint n_ready, gpointer calls)
{
  gsize length;
  G_GNUC_UNUSED g_autofree guint8 *records = gaio_ready_set_take (set, &length);

  ++*(guint *) calls;
}

/* The first look at any fd may be the one. */
static void
test_new_handler (gconstpointer nested)
{
  for (guint before = 0; before < 4; before++)
    {
      g_auto (Rig) rig = rig_new (nested);
      gint fd = eventfd_new (1);
      guint calls = 0;
      GaioHandler *handler, *other;

      set_gatherings (rig.context, G_MAXUINT32 - before);
      handler = add_fd (rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
      other = add_fd (rig.context, fd, G_IO_IN, count_fd, &calls, NULL);

      for (guint i = 1; i <= 6; i++)
        {
          g_assert_true (rig_round (&rig, FALSE));
          g_assert_cmpuint (calls, ==, 2 * i);
        }
      gaio_clear_handler (&handler);
      gaio_clear_handler (&other);
      close (fd);
    }
}

static void
test_new_always_ready (gconstpointer nested)
{
  for (guint before = 0; before < 4; before++)
    {
      g_auto (Rig) rig = rig_new (nested);
      gint fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
      guint calls = 0;
      GaioHandler *handler;

      set_gatherings (rig.context, G_MAXUINT32 - before);
      handler = add_fd (rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
      for (guint i = 1; i <= 6; i++)
        {
          g_assert_true (rig_round (&rig, FALSE));
          g_assert_cmpuint (calls, ==, i);
        }
      gaio_clear_handler (&handler);
      close (fd);
    }
}

/* One that was ready exactly 2^32 gatherings ago, and silent since: in a round or the next. */
static void
test_old_handler (void)
{
  for (guint32 when = 2; when < 6; when++)
    {
      g_auto (Rig) rig = rig_new (NULL);
      gint fd = eventfd_new (1);
      guint calls = 0;
      GaioHandler *handler = add_fd (rig.context, fd, G_IO_IN, count_and_take_fd, &calls, NULL);

      set_gatherings (rig.context, when - 1);
      g_assert_true (rig_round (&rig, FALSE));
      g_assert_cmpuint (get_gatherings (rig.context), ==, when);
      set_gatherings (rig.context, G_MAXUINT32 - 1);
      while (get_gatherings (rig.context) != when - 1)
        g_assert_false (rig_round (&rig, FALSE));
      eventfd_add (fd);
      if (!rig_round (&rig, FALSE))
        g_assert_true (rig_round (&rig, FALSE));
      g_assert_cmpuint (calls, ==, 2);
      gaio_clear_handler (&handler);
      close (fd);
    }
}

static void
test_ready_set (gconstpointer nested)
{
  for (guint before = 0; before < 4; before++)
    {
      g_auto (Rig) rig = rig_new (nested);
      GaioReadySet *set = gaio_ready_set_new (rig.context);
      gint fd = eventfd_new (1);
      guint calls = 0;
      GaioHandler *handler;

      set_gatherings (rig.context, G_MAXUINT32 - before);
      handler = gaio_ready_set_add_fd (set, fd, G_IO_IN, 1, NULL);
      gaio_ready_set_set_func (set, take_all, &calls, NULL);
      for (guint i = 1; i <= 6; i++)
        {
          g_assert_true (rig_round (&rig, FALSE));
          g_assert_cmpuint (calls, ==, i);
        }
      gaio_clear_handler (&handler);
      g_object_unref (set);
    }
}

/* --- Nested calls of a handler that can recurse, of which 16 bits are counted --- */

/* Far more than fits into what a thread has by default. */
#define STACK_SIZE (1024 * 1024 * 1024)

typedef struct
{
  GaioContext *context;
  GaioHandler *handler;
  guint depth; /* calls in flight */
  guint deepest;
  guint notified;
} Recursion;

static void
note_end (gpointer data)
{
  Recursion *self = data;

  g_assert_cmpuint (self->depth, ==, 0);
  self->notified++;
}

/* The innermost, deeper than 16 bits can count, removes it. */
static gboolean
recurse (gint fd, GIOCondition condition, gpointer data)
{
  Recursion *self = data;

  self->depth++;
  self->deepest = MAX (self->deepest, self->depth);
  if (self->depth > G_MAXUINT16 || !gaio_context_iterate (self->context, 0))
    {
      gaio_handler_remove (self->handler);
      gaio_context_iterate (self->context, 0);
    }
  self->depth--;
  return G_SOURCE_CONTINUE;
}

static void *
run_recursion (gpointer data)
{
  Recursion *self = data;

  gaio_context_iterate (self->context, 0);
  gaio_context_iterate (self->context, 0);
  return NULL;
}

static gboolean
run_with_stack (void *(*func) (void *), gpointer data)
{
  pthread_attr_t attributes;
  pthread_t thread;
  int errsv;

  pthread_attr_init (&attributes);
  pthread_attr_setstacksize (&attributes, STACK_SIZE);
  errsv = pthread_create (&thread, &attributes, func, data);
  pthread_attr_destroy (&attributes);
  if (errsv == 0)
    join (thread);
  return errsv == 0;
}

static void
test_nested_calls (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  gint fd = eventfd_new (1);
  Recursion recursion = { .context = context };

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer knows 65,536 calls in all");
  close (fd);
  return;
#endif
  recursion.handler = add_fd (context, fd, G_IO_IN, recurse, &recursion, note_end);
  gaio_handler_set_can_recurse (recursion.handler, TRUE);
  if (run_with_stack (run_recursion, &recursion))
    {
      g_assert_cmpuint (recursion.deepest, ==, G_MAXUINT16 + 1);
      g_assert_cmpuint (recursion.notified, ==, 1);
    }
  else
    g_test_skip ("no memory for the stack");
  gaio_clear_handler (&recursion.handler);
  gaio_context_iterate (context, 0);
  close (fd);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/wrap/gatherings/new-handler-is-called", test_new_handler);
  add_both ("/wrap/gatherings/new-always-ready-handler-is-called", test_new_always_ready);
  g_test_add_func ("/wrap/gatherings/handler-silent-for-long-is-called", test_old_handler);
  add_both ("/wrap/gatherings/ready-set-is-called", test_ready_set);
  g_test_add_func ("/wrap/nested-calls/notify-runs-after-all-of-them", test_nested_calls);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-waits.h"
#include "test-busy-poll.h"

/* --- Everybody else --- */

static void
always_ready (gpointer data)
{
  ((Story *) data)->ready = TRUE;
}

static gboolean
never_ready (gpointer data)
{
  return FALSE;
}

static void
test_always_true_does_not_starve_others (gconstpointer nested)
{
  g_auto (Story) story;
  guint calls = 0, fired = 0, deferred = 0;
  gint fd = eventfd_new (0);
  GaioHandler *other;
  GaioTimer *timer;

  story_init (&story, nested);
  other = add_fd (story.rig.context, fd, G_IO_IN, count_fd, &calls, NULL);
  gaio_handler_set_poll_funcs (other, never_ready, NULL, NULL);
  timer = gaio_context_add_timer (story.rig.context, count_once, &fired, NULL);
  gaio_timer_arm (timer, 100);
  gaio_context_defer (story.rig.context, count_once, &deferred, NULL);
  story.act = always_ready;
  open_window (&story, 1000);
  eventfd_add (fd);
  rig_until (&story.rig, calls > 0 && fired == 1 && deferred == 1 && story.calls > 10);
  story.act = NULL;
  story.ready = FALSE;
  gaio_clear_timer (&timer);
  gaio_clear_handler (&other);
  close (fd);
}

static gboolean
count_idle (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static void
test_other_sources_are_not_starved (void)
{
  g_auto (Story) story;
  guint idles = 0;
  GSource *idle = g_idle_source_new ();

  story_init (&story, GINT_TO_POINTER (TRUE));
  g_source_set_priority (idle, G_PRIORITY_DEFAULT);
  g_source_set_callback (idle, count_idle, &idles, NULL);
  g_source_attach (idle, story.rig.main_context);
  story.act = always_ready;
  gaio_context_set_poll_params (story.rig.context, 1000, 0, 0);
  rig_until (&story.rig, idles > 10 && story.calls > 10);
  g_source_destroy (idle);
  g_source_unref (idle);
  story.act = NULL;
  story.ready = FALSE;
}

static void *
defer_while_polling (void *data)
{
  while (!atomic_load (&stranger.polling))
    sched_yield ();
  gaio_context_defer (stranger.story->rig.context, count_atomic, &stranger.deferred, NULL);
  return NULL;
}

/* TRUE if the loop was not written to. */
static gboolean
is_told_without_write (Story *story)
{
  guint64 wakeups = stat_of (story->rig.context, "wakeups");
  pthread_t thread;

  atomic_store (&stranger.polling, false);
  atomic_store (&stranger.deferred, 0);
  thread = spawn (defer_while_polling, NULL);
  rig_until (&story->rig, atomic_load (&stranger.deferred) == 1);
  join (thread);
  return stat_of (story->rig.context, "wakeups") == wakeups;
}

/* It ends at once, and without a system call of the other thread, unless that was not run for all
 * of the time. */
static void
test_another_thread_ends_it (gconstpointer nested)
{
  g_auto (Story) story;
  gboolean told = FALSE;

  story_init (&story, nested);
  open_window (&story, G_USEC_PER_SEC);
  stranger.story = &story;
  story.act = tell_stranger;
  for (guint i = 0; i < 20 && !told; i++)
    told = is_told_without_write (&story);
  g_assert_true (told);
  story.act = NULL;
}

/* --- What comes while the lock is given up, and the loop is about to sleep --- */

static guint came;

static void
note_come (gpointer data)
{
  came++;
}

static void
defer_meanwhile (Story *story)
{
  gaio_context_defer (story->rig.context, note_come, NULL, NULL);
}

static void
arm_meanwhile (Story *story)
{
  GaioTimer *timer = gaio_context_add_timer (story->rig.context, note_come, NULL, NULL);

  gaio_timer_arm (timer, 1000);
  gaio_timer_unref (timer);
}

static void
wake_meanwhile (Story *story)
{
  gaio_context_wakeup (story->rig.context);
  came++;
}

static void
close_meanwhile (Story *story)
{
  gaio_context_close (story->rig.context);
  came++;
}

static void
remove_meanwhile (Story *story)
{
  gaio_timer_unref (gaio_context_add_timer (story->rig.context, note_come, NULL, NULL));
  gaio_clear_handler (&story->handler);
  came++;
}

static const struct
{
  const char *name;
  void (*happen) (Story *story);
} meanwhile[] = {
  { "deferred", defer_meanwhile }, { "armed", arm_meanwhile },      { "woken", wake_meanwhile },
  { "closed", close_meanwhile },   { "removed", remove_meanwhile },
};

typedef struct
{
  gboolean nested;
  gboolean window; /* else it is asked once */
  guint at;        /* which asking it comes in */
  guint what;      /* of meanwhile[] */
} Moment;

static const Moment *moment;

static void
happen_once (gpointer data)
{
  Story *story = data;

  if (story->polls == moment->at)
    meanwhile[moment->what].happen (story);
}

/* Another thread may do it at that moment: nothing is written then, as the loop is awake. */
static void
test_no_sleep_over_what_came_while_polled (gconstpointer data)
{
  Story story;

  moment = data;
  came = 0;
  story_init (&story, GINT_TO_POINTER (moment->nested));
  if (moment->window)
    open_window (&story, 1000);
  else
    gaio_context_set_poll_params (story.rig.context, 1, 2, 2);
  rig_settle (&story.rig);
  story.polls = 0;
  story.act = happen_once;
  /* Waits until something happens: it has to come back by itself. */
  while (came == 0)
    rig_round (&story.rig, TRUE);
  story_clear (&story);
}

static void
add_moments (void)
{
  static Moment moments[2 * 2 * 3 * G_N_ELEMENTS (meanwhile)];
  guint n = 0;

  for (guint nested = 0; nested < 2; nested++)
    for (guint window = 0; window < 2; window++)
      /* A round alone asks once more before it gathers; at the end of a window it is asked again.
       */
      for (guint at = 1; at <= 2 - nested + window; at++)
        for (guint what = 0; what < G_N_ELEMENTS (meanwhile); what++)
          {
            g_autofree char *path =
                g_strdup_printf ("/busy-poll/no-sleep-over-what-came-while-polled/%s/%s/%u/%s",
                                 nested ? "nested" : "alone", window ? "window" : "one-look", at,
                                 meanwhile[what].name);

            moments[n] = (Moment){ nested, window, at, what };
            g_test_add_data_func (path, &moments[n++], test_no_sleep_over_what_came_while_polled);
          }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  epoll_waited = assert_not_in_poll_mode;
  add_both ("/busy-poll/always-true-does-not-starve-others",
            test_always_true_does_not_starve_others);
  g_test_add_func ("/busy-poll/other-sources-are-not-starved", test_other_sources_are_not_starved);
  add_both ("/busy-poll/another-thread-ends-it", test_another_thread_ends_it);
  add_moments ();
  return g_test_run ();
}

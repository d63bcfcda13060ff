/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main contexts that a context serves: each story over a context alone and under GLib. */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <gio/gio.h>

#include "test-serve.h"

/* So many that a pass of the sweep takes several ticks. */
#define N_OTHERS 40

/* --- What is served --- */

static void
test_idle_source (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, nested);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &calls);
  until (&stage, calls == 1);
  settle (&stage);
  attach_idle (stage.inner, G_PRIORITY_HIGH, count_and_stop, &calls);
  until (&stage, calls == 2);
  stage_end (&stage);
}

static void
test_timeout_source (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  GSource *source = g_timeout_source_new (3);

  stage_begin (&stage, nested);
  g_source_set_callback (source, count_again, &calls, NULL);
  g_source_attach (source, stage.inner);
  until (&stage, calls == 3);
  g_source_set_ready_time (source, g_get_monotonic_time () + 1000);
  until (&stage, calls == 4);
  g_source_destroy (source);
  g_source_unref (source);
  stage_end (&stage);
}

static void
test_fd_source (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (0);

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  for (guint i = 1; i <= 5; i++)
    {
      eventfd_add (fd);
      until (&stage, calls == i);
    }
  stage_end (&stage);
  close (fd);
}

static gboolean
check_thread_default (gpointer data)
{
  Story *story = data;

  g_assert_true (g_main_context_get_thread_default () == story->stage->inner);
  g_assert_true (g_main_context_is_owner (story->stage->inner));
  story->calls++;
  return G_SOURCE_REMOVE;
}

static gpointer
acquire_for_a_moment (gpointer main_context)
{
  gboolean acquired = g_main_context_acquire (main_context);

  if (acquired)
    g_main_context_release (main_context);
  return GINT_TO_POINTER (acquired);
}

static void
test_owned_only_during_a_turn (gconstpointer nested)
{
  Stage stage;
  Story story = { &stage };

  stage_begin (&stage, nested);
  attach_idle (stage.inner, 0, check_thread_default, &story);
  until (&stage, story.calls == 1);
  g_assert_true (g_thread_join (g_thread_new ("taker", acquire_for_a_moment, stage.inner)) != NULL);
  stage_end (&stage);
}

static gpointer
invoke_from_thread (gpointer data)
{
  Story *story = data;

  attach_idle (story->stage->inner, 0, check_thread_default, story);
  return NULL;
}

static void
test_attached_from_another_thread (gconstpointer nested)
{
  Stage stage;
  Story story = { &stage };

#ifdef __SANITIZE_THREAD__
  g_test_skip ("ThreadSanitizer does not see the locks of GLib");
  return;
#endif
  stage_begin (&stage, nested);
  for (guint i = 1; i <= 20; i++)
    {
      GThread *thread;

      settle (&stage);
      thread = g_thread_new ("attacher", invoke_from_thread, &story);
      until (&stage, story.calls == i);
      g_thread_join (thread);
    }
  stage_end (&stage);
}

/* As GLib orders them. */
static gboolean
mark_and_stop (gpointer data)
{
  mark_once (data);
  return G_SOURCE_REMOVE;
}

static void
test_priorities_within_one (gconstpointer nested)
{
  Stage stage;
  GString *log = g_string_new (NULL);
  Mark low = { log, 'l' }, middle = { log, 'm' }, high = { log, 'h' };

  stage_begin (&stage, nested);
  attach_idle (stage.inner, 10, mark_and_stop, &low);
  attach_idle (stage.inner, -10, mark_and_stop, &high);
  attach_idle (stage.inner, 0, mark_and_stop, &middle);
  until (&stage, log->len == 3);
  g_assert_cmpstr (log->str, ==, "hml");
  g_string_free (log, TRUE);
  stage_end (&stage);
}

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

static gboolean
counting_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  return G_SOURCE_CONTINUE;
}

static void
test_several_ready_fds_are_one_turn (gconstpointer nested)
{
  static GSourceFuncs funcs = { .check = counting_check, .dispatch = counting_dispatch };
  Stage stage;
  gint fds[5];
  guint calls = 0, before;
  GSource *source = g_source_new (&funcs, sizeof (CountingSource));

  stage_begin (&stage, nested);
  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_attach (source, stage.inner);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = eventfd_new (0);
      attach_fd (stage.inner, fds[i], take_fd, &calls);
    }
  settle (&stage);
  before = ((CountingSource *) source)->checks;
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    eventfd_add (fds[i]);
  round_of (&stage, TRUE);
  g_assert_cmpuint (calls, ==, G_N_ELEMENTS (fds));
  g_assert_cmpuint (((CountingSource *) source)->checks, ==, before + 1);
  g_source_unref (source);
  stage_end (&stage);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
}

/* --- What changes behind its back --- */

typedef struct
{
  Stage *stage;
  gint fd;
  gint other;
  guint calls;
  guint later;
} Reuse;

static gboolean
count_reused (gint fd, GIOCondition condition, gpointer data)
{
  Reuse *reuse = data;

  eventfd_take (fd);
  reuse->later++;
  return G_SOURCE_CONTINUE;
}

/* The number stays, and what it waits for looks the same. */
static gboolean
close_and_reuse (gint fd, GIOCondition condition, gpointer data)
{
  Reuse *reuse = data;

  reuse->calls++;
  g_assert_cmpint (dup2 (reuse->other, fd), ==, fd);
  attach_fd (reuse->stage->inner, fd, count_reused, reuse);
  return G_SOURCE_REMOVE;
}

static void
test_number_reused_in_a_callback (gconstpointer nested)
{
  Stage stage;
  Reuse reuse = { &stage, eventfd_new (0), eventfd_new (0) };

  stage_begin (&stage, nested);
  attach_fd (stage.inner, reuse.fd, close_and_reuse, &reuse);
  settle (&stage);
  eventfd_add (reuse.fd);
  until (&stage, reuse.calls == 1);
  settle (&stage);
  g_assert_cmpuint (reuse.later, ==, 0);
  eventfd_add (reuse.other);
  until (&stage, reuse.later == 1);
  stage_end (&stage);
  close (reuse.fd);
  close (reuse.other);
}

typedef struct
{
  Stage *stage;
  GSocketConnection *connection;
  gint peer;
  char buffer[16];
  gssize length;
  GError *error;
  guint calls;
} Reader;

static void
read_done (GObject *stream, GAsyncResult *result, gpointer data)
{
  Reader *reader = data;

  g_clear_error (&reader->error);
  reader->length = g_input_stream_read_finish (G_INPUT_STREAM (stream), result, &reader->error);
  reader->calls++;
  g_assert_true (g_main_context_get_thread_default () == reader->stage->inner);
}

static void
reader_read (gpointer data)
{
  Reader *reader = data;

  g_input_stream_read_async (g_io_stream_get_input_stream (G_IO_STREAM (reader->connection)),
                             reader->buffer, sizeof reader->buffer, 0, NULL, read_done, reader);
}

static void
reader_begin (Reader *reader, Stage *stage)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = NULL;
  gint fds[2];

  *reader = (Reader){ .stage = stage };
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  socket = g_socket_new_from_fd (fds[0], &error);
  g_assert_no_error (error);
  reader->connection = g_socket_connection_factory_create_connection (socket);
  reader->peer = fds[1];
}

static void
reader_end (Reader *reader)
{
  g_clear_object (&reader->connection);
  g_clear_error (&reader->error);
  close (reader->peer);
}

static void
test_gio_reads_in_it (gconstpointer nested)
{
  Stage stage;
  Reader reader;

  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  for (guint i = 1; i <= 3; i++)
    {
      gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
      settle (&stage);
      g_assert_cmpint (write (reader.peer, "hello", 5), ==, 5);
      until (&stage, reader.calls == i);
      g_assert_cmpint (reader.length, ==, 5);
    }
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  shutdown (reader.peer, SHUT_RDWR);
  until (&stage, reader.calls == 4);
  g_assert_cmpint (reader.length, ==, 0);
  reader_end (&reader);
  stage_end (&stage);
}

static void
close_stream (gpointer data)
{
  Reader *reader = data;

  g_io_stream_close (G_IO_STREAM (reader->connection), NULL, NULL);
}

/* GIO tells nobody: a GMainContext that is iterated all the time finds it. */
static void
test_closed_from_outside_is_swept (gconstpointer nested)
{
  Stage stage;
  Reader reader;

  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  settle (&stage);
  gaio_context_defer (stage.context, close_stream, &reader, NULL);
  until (&stage, reader.calls == 1);
  g_assert_error (reader.error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  reader_end (&reader);
  stage_end (&stage);
}

/* But for the one that until() arms. */
static guint
count_armed_timers (Stage *stage)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (stage->context);
  guint n = 0;

  g_assert_true (g_variant_lookup (stats, "armed-timers", "u", &n));
  return n - 1;
}

static guint64
count_callbacks (Stage *stage)
{
  g_autoptr (GVariant) stats = gaio_context_dup_stats (stage->context);
  guint64 n = 0;

  g_assert_true (g_variant_lookup (stats, "callbacks", "t", &n));
  return n;
}

static gboolean
close_stream_once (gpointer data)
{
  close_stream (data);
  return G_SOURCE_REMOVE;
}

/* By another source of the main loop, or between two calls of gaio_context_iterate(), and when
 * nothing is being looked at any more. */
static void
test_closed_by_others_is_swept (gconstpointer nested)
{
  Stage stage;
  Reader reader;

  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  /* There is at least one tick. */
  until (&stage, count_callbacks (&stage) > 0 && count_armed_timers (&stage) == 0);
  /* Longer than GLib takes for a tick. */
  g_usleep (50000);
  if (stage.outer != NULL)
    attach_idle (stage.outer, G_PRIORITY_DEFAULT, close_stream_once, &reader);
  else
    close_stream (&reader);
  until (&stage, reader.calls == 1);
  g_assert_error (reader.error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  reader_end (&reader);
  stage_end (&stage);
}

/* Closes the stream after the callbacks of an iteration in which the sweep ticks. */
static void
check_closed_after_ticks (gconstpointer nested, guint n_ticks)
{
  Stage stage;
  Reader reader;
  GMainContext *others[N_OTHERS];
  guint64 begun;

  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  for (guint i = 0; i < N_OTHERS; i++)
    others[i] = gaio_context_create_main_context (stage.context, NULL, NULL);
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  settle (&stage);
  begun = count_callbacks (&stage);
  until (&stage, count_callbacks (&stage) >= begun + n_ticks || count_armed_timers (&stage) == 0);
  /* The next tick is due, if there is one. */
  g_usleep (60000);
  if (stage.outer != NULL)
    attach_idle (stage.outer, G_PRIORITY_DEFAULT, close_stream_once, &reader);
  round_of (&stage, FALSE);
  if (stage.outer == NULL)
    close_stream (&reader);
  until (&stage, reader.calls == 1);
  for (guint i = 0; i < N_OTHERS; i++)
    g_main_context_unref (others[i]);
  reader_end (&reader);
  stage_end (&stage);
}

/* Also with its last tick, and whether this has looked there already or not. */
static void
test_closed_during_a_sweep (gconstpointer nested)
{
  for (guint n_ticks = 0; n_ticks < 8; n_ticks++)
    check_closed_after_ticks (nested, n_ticks);
}

/* What the sweep itself does must not begin another one. */
static void
test_sweep_ends_for_good (gconstpointer nested)
{
  Stage stage;
  Reader reader;
  GaioTimer *timer;
  guint over = 0;

  if (test_is_interrupted ())
    return;
  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  timer = gaio_context_add_timer (stage.context, count_once, &over, NULL);
  gaio_timer_arm (timer, 500000);
  while (over == 0)
    round_of (&stage, TRUE);
  /* Half as many as there would be. */
  g_assert_cmpuint (count_callbacks (&stage), <=, 5);
  gaio_clear_timer (&timer);
  shutdown (reader.peer, SHUT_RDWR);
  until (&stage, reader.calls == 1);
  reader_end (&reader);
  stage_end (&stage);
}

static void
test_sweep_of_nothing_ends (gconstpointer nested)
{
  Stage stage;

  stage_begin (&stage, nested);
  settle (&stage);
  gaio_context_stop_serving (stage.context, stage.inner);
  until (&stage, count_armed_timers (&stage) == 0);
  stage_end (&stage);
}

static void
test_closed_in_a_call_is_seen_at_once (gconstpointer nested)
{
  Stage stage;
  Reader reader;

  stage_begin (&stage, nested);
  reader_begin (&reader, &stage);
  gaio_context_call_in (stage.context, stage.inner, reader_read, &reader);
  settle (&stage);
  gaio_context_call_in (stage.context, stage.inner, close_stream, &reader);
  settle (&stage);
  g_assert_cmpuint (reader.calls, ==, 1);
  g_assert_error (reader.error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  reader_end (&reader);
  stage_end (&stage);
}

static gboolean
note_condition (gint fd, GIOCondition condition, gpointer data)
{
  *(guint *) data |= condition;
  return G_SOURCE_REMOVE;
}

/* epoll says nothing of it, GLib's poll does. */
static void
test_fd_closed_under_its_source_is_told (gconstpointer nested)
{
  Stage stage;
  guint told = 0, calls = 0;
  gint fd = eventfd_new (0);

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, note_condition, &told);
  settle (&stage);
  close (fd);
  gaio_context_defer (stage.context, count_once, &calls, NULL);
  until (&stage, told != 0);
  g_assert_cmpuint (told, ==, G_IO_NVAL);
  stage_end (&stage);
}

/* --- Bad input --- */

static void
test_without_ownerless_polling_is_not_supported (gconstpointer nested)
{
  Stage stage;
  g_autoptr (GMainContext) other = g_main_context_new ();
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, nested);
  g_assert_false (gaio_context_serve_main_context (stage.context, other, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_NOT_SUPPORTED);
  stage_end (&stage);
}

static void
test_served_twice_fails (gconstpointer nested)
{
  Stage stage, other;
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, nested);
  stage_begin (&other, nested);
  g_assert_false (gaio_context_serve_main_context (stage.context, stage.inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  g_clear_error (&error);
  g_assert_false (gaio_context_serve_main_context (other.context, stage.inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  stage_end (&other);
  stage_end (&stage);
}

static void
test_own_main_context_fails (void)
{
  Stage stage;
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, "nested");
  g_assert_false (gaio_context_serve_main_context (stage.context, stage.outer, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  stage_end (&stage);
}

static void
test_nested_in_what_it_serves_fails (void)
{
  Stage stage;
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, NULL);
  g_assert_false (gaio_context_attach (stage.context, stage.inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_FAILED);
  stage_end (&stage);
}

static void
test_owned_by_another_thread_fails (gconstpointer nested)
{
  Stage stage;
  Holder holder = { g_main_context_new_with_flags (G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING) };
  g_autoptr (GError) error = NULL;
  GThread *thread = g_thread_new ("holder", hold, &holder);

  while (!atomic_load (&holder.holds))
    sched_yield ();
  stage_begin (&stage, nested);
  g_assert_false (gaio_context_serve_main_context (stage.context, holder.inner, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_WRONG_THREAD);
  atomic_store (&holder.lets_go, TRUE);
  g_thread_join (thread);
  stage_end (&stage);
  g_main_context_unref (holder.inner);
}

static void
test_no_fd_left_is_an_error (gconstpointer nested)
{
  Stage stage;
  struct rlimit before, tight;
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, nested);
  settle (&stage);
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  tight = (struct rlimit){ 0, before.rlim_max };
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &tight), ==, 0);
  g_assert_null (gaio_context_create_main_context (stage.context, NULL, &error));
  g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_PROCESS_LIMIT);
  stage_end (&stage);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/serve/idle-source", test_idle_source);
  add_both ("/serve/timeout-source", test_timeout_source);
  add_both ("/serve/fd-source", test_fd_source);
  add_both ("/serve/owned-only-during-a-turn", test_owned_only_during_a_turn);
  add_both ("/serve/attached-from-another-thread", test_attached_from_another_thread);
  add_both ("/serve/priorities-within-one", test_priorities_within_one);
  add_both ("/serve/several-ready-fds-are-one-turn", test_several_ready_fds_are_one_turn);
  add_both ("/serve/number-reused-in-a-callback", test_number_reused_in_a_callback);
  add_both ("/serve/gio-reads-in-it", test_gio_reads_in_it);
  add_both ("/serve/closed-from-outside-is-swept", test_closed_from_outside_is_swept);
  add_both ("/serve/closed-by-others-is-swept", test_closed_by_others_is_swept);
  add_both ("/serve/closed-during-a-sweep-is-swept", test_closed_during_a_sweep);
  add_both ("/serve/sweep-ends-for-good", test_sweep_ends_for_good);
  add_both ("/serve/sweep-of-nothing-ends", test_sweep_of_nothing_ends);
  add_both ("/serve/closed-in-a-call-is-seen-at-once", test_closed_in_a_call_is_seen_at_once);
  add_both ("/serve/fd-closed-under-its-source-is-told", test_fd_closed_under_its_source_is_told);
  add_both ("/serve/without-ownerless-polling-is-not-supported",
            test_without_ownerless_polling_is_not_supported);
  add_both ("/serve/served-twice-fails", test_served_twice_fails);
  g_test_add_func ("/serve/own-main-context-fails", test_own_main_context_fails);
  g_test_add_func ("/serve/nested-in-what-it-serves-fails", test_nested_in_what_it_serves_fails);
  add_both ("/serve/owned-by-another-thread-fails", test_owned_by_another_thread_fails);
  add_both ("/serve/no-fd-left-is-an-error", test_no_fd_left_is_an_error);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main contexts that a context serves: each story over a context alone and under GLib. */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <gio/gio.h>

#include "test-serve.h"

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

typedef struct
{
  Stage *stage;
  guint calls;
  pthread_t thread;
} Story;

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

/* GLib wakes it up for what its callbacks do, and nothing is to be done about it. */
static void
test_turn_is_not_followed_by_an_empty_one (gconstpointer nested)
{
  static GSourceFuncs funcs = { .check = counting_check, .dispatch = counting_dispatch };
  Stage stage;
  gint fd = eventfd_new (0);
  guint calls = 0, before;
  GSource *source = g_source_new (&funcs, sizeof (CountingSource));

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
  g_source_unref (source);
  stage_end (&stage);
  close (fd);
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
  until (&stage, count_armed_timers (&stage) == 0);
  if (stage.outer != NULL)
    attach_idle (stage.outer, G_PRIORITY_DEFAULT, close_stream_once, &reader);
  else
    close_stream (&reader);
  until (&stage, reader.calls == 1);
  g_assert_error (reader.error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  reader_end (&reader);
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

/* --- Its life --- */

typedef struct
{
  GSocket *socket;
  guint calls;
} Wait;

static void
test_goes_with_its_owner (gconstpointer nested)
{
  Stage stage;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  g_autoptr (GMainContext) inner = NULL;
  guint calls = 0, n_fds;

  stage_begin (&stage, nested);
  settle (&stage);
  n_fds = count_open_fds ();
  inner = gaio_context_create_main_context (stage.context, owner, NULL);
  attach_idle (inner, 0, count_and_stop, &calls);
  until (&stage, calls == 1);
  g_object_unref (owner);
  settle (&stage);
  attach_idle (inner, 0, count_and_stop, &calls);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  g_clear_pointer (&inner, g_main_context_unref);
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
  stage_end (&stage);
}

static gboolean
drop_owner (gpointer data)
{
  g_object_unref (data);
  return G_SOURCE_REMOVE;
}

static void
test_owner_goes_in_its_own_turn (gconstpointer nested)
{
  Stage stage;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  g_autoptr (GMainContext) inner = NULL;
  guint calls = 0;

  stage_begin (&stage, nested);
  inner = gaio_context_create_main_context (stage.context, owner, NULL);
  attach_idle (inner, -1, drop_owner, owner);
  attach_idle (inner, 0, count_and_stop, &calls);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  attach_idle (inner, 0, count_and_stop, &calls);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  stage_end (&stage);
}

/* What waits for a stream of its owner is told that this was closed, as in GLib. */
static gboolean
note_closed (GSocket *socket, GIOCondition condition, gpointer data)
{
  g_assert_true (g_socket_is_closed (socket));
  ++*(guint *) data;
  return G_SOURCE_REMOVE;
}

static void
begin_to_wait (gpointer data)
{
  Wait *wait = data;
  g_autoptr (GSource) source = g_socket_create_source (wait->socket, G_IO_IN, NULL);

  g_source_set_callback (source, G_SOURCE_FUNC (note_closed), &wait->calls, NULL);
  g_source_attach (source, g_main_context_get_thread_default ());
}

static void
test_under_way_ends_with_the_owner (gconstpointer nested)
{
  Stage stage;
  Wait wait = { 0 };
  g_autoptr (GSocketConnection) owner = NULL;
  g_autoptr (GMainContext) inner = NULL;
  gint fds[2];

  stage_begin (&stage, nested);
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  wait.socket = g_socket_new_from_fd (fds[0], NULL);
  owner = g_socket_connection_factory_create_connection (wait.socket);
  g_object_unref (wait.socket);
  inner = gaio_context_create_main_context (stage.context, G_OBJECT (owner), NULL);
  gaio_context_call_in (stage.context, inner, begin_to_wait, &wait);
  settle (&stage);
  g_io_stream_close (G_IO_STREAM (owner), NULL, NULL);
  g_clear_object (&owner);
  settle (&stage);
  g_assert_cmpuint (wait.calls, ==, 1);
  g_assert_cmpuint (count_served (&stage), ==, 1);
  close (fds[1]);
  stage_end (&stage);
}

static void
test_busy_source_ends_with_the_owner (gconstpointer nested)
{
  Stage stage;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  g_autoptr (GMainContext) inner = NULL;
  guint calls = 0;

  stage_begin (&stage, nested);
  inner = gaio_context_create_main_context (stage.context, owner, NULL);
  attach_idle (inner, 0, count_again, &calls);
  until (&stage, calls > 10);
  g_object_unref (owner);
  until (&stage, count_served (&stage) == 1);
  stage_end (&stage);
}

static void
test_several_of_one_owner (gconstpointer nested)
{
  Stage stage;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);

  stage_begin (&stage, nested);
  for (guint i = 0; i < 3; i++)
    g_main_context_unref (gaio_context_create_main_context (stage.context, owner, NULL));
  g_assert_cmpuint (count_served (&stage), ==, 4);
  g_object_unref (owner);
  until (&stage, count_served (&stage) == 1);
  stage_end (&stage);
}

static gpointer
drop_in_thread (gpointer owner)
{
  g_object_unref (owner);
  return NULL;
}

static void
test_owner_goes_in_another_thread (gconstpointer nested)
{
  Stage stage;
  guint n_fds;

  stage_begin (&stage, nested);
  settle (&stage);
  n_fds = count_open_fds ();
  for (guint i = 0; i < 100; i++)
    {
      GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
      GThread *thread;

      g_main_context_unref (gaio_context_create_main_context (stage.context, owner, NULL));
      thread = g_thread_new ("dropper", drop_in_thread, owner);
      round_of (&stage, FALSE);
      g_thread_join (thread);
    }
  settle (&stage);
  g_assert_cmpuint (count_open_fds (), ==, n_fds);
  stage_end (&stage);
}

static gboolean
stop_here (gpointer data)
{
  Story *story = data;

  gaio_context_stop_serving (story->stage->context, story->stage->inner);
  story->calls++;
  return G_SOURCE_CONTINUE;
}

static void
test_stopped_in_its_own_turn (gconstpointer nested)
{
  Stage stage;
  Story story = { &stage };

  stage_begin (&stage, nested);
  attach_idle (stage.inner, 0, stop_here, &story);
  until (&stage, story.calls == 1);
  settle (&stage);
  g_assert_cmpuint (story.calls, ==, 1);
  gaio_context_stop_serving (stage.context, stage.inner);
  /* What is attached stays, for others. */
  g_assert_true (g_main_context_iteration (stage.inner, FALSE));
  g_assert_cmpuint (story.calls, ==, 2);
  stage_end (&stage);
}

static void
test_closed_context_serves_no_more (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  gaio_context_close (stage.context);
  g_assert_null (gaio_context_create_main_context (stage.context, NULL, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_assert_cmpuint (calls, ==, 0);
  g_assert_true (g_main_context_iteration (stage.inner, FALSE));
  g_assert_cmpuint (calls, ==, 1);
  stage_end (&stage);
}

static void
test_served_again_after_a_stop (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (0);
  g_autoptr (GError) error = NULL;

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  gaio_context_stop_serving (stage.context, stage.inner);
  eventfd_add (fd);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 0);
  g_assert_true (gaio_context_serve_main_context (stage.context, stage.inner, &error));
  g_assert_no_error (error);
  until (&stage, calls == 1);
  stage_end (&stage);
  close (fd);
}

/* The turn of the first time may not even be over. */
static void
test_served_again_at_once (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, nested);
  settle (&stage);
  for (guint i = 0; i < 3; i++)
    {
      gaio_context_stop_serving (stage.context, stage.inner);
      g_assert_true (gaio_context_serve_main_context (stage.context, stage.inner, NULL));
    }
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  while (g_main_context_iteration (stage.inner, FALSE))
    ;
  g_assert_cmpuint (calls, ==, 1);
  attach_idle (stage.inner, 0, count_and_stop, &calls);
  until (&stage, calls == 2);
  stage_end (&stage);
}

static gboolean
count_three (gint fd, GIOCondition condition, gpointer data)
{
  return ++*(guint *) data < 3;
}

/* epoll refuses it. */
static void
test_regular_file_is_always_ready (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = open ("/proc/self/exe", O_RDONLY | O_CLOEXEC);

  g_assert_cmpint (fd, >=, 0);
  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, count_three, &calls);
  until (&stage, calls == 3);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 3);
  stage_end (&stage);
  close (fd);
}

static void
test_moved_between_main_contexts (void)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (0);

  stage_begin (&stage, "nested");
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  gaio_context_detach (stage.context);
  settle (&stage);
  g_main_context_unref (stage.outer);
  stage.outer = NULL;
  eventfd_add (fd);
  until (&stage, calls == 1);
  stage.outer = g_main_context_new ();
  attach (stage.context, stage.outer);
  eventfd_add (fd);
  until (&stage, calls == 2);
  stage_end (&stage);
  close (fd);
}

/* --- Loops inside of it --- */

typedef struct
{
  Stage *stage;
  GMainContext *other; /* another inner context */
  guint timeouts;
  guint idles;
  guint others;
  guint calls;
} Nest;

static gboolean
nest_outer (gpointer data)
{
  Nest *nest = data;

  nest->calls++;
  until (nest->stage, nest->timeouts > 0 && nest->idles > 0 && nest->others > 0);
  return G_SOURCE_REMOVE;
}

static gboolean
attach_others_and_nest (gpointer data)
{
  Nest *nest = data;
  GSource *timeout = g_timeout_source_new (2);

  g_source_set_callback (timeout, count_and_stop, &nest->timeouts, NULL);
  g_source_attach (timeout, nest->stage->inner);
  g_source_unref (timeout);
  attach_idle (nest->stage->inner, G_PRIORITY_DEFAULT, count_and_stop, &nest->idles);
  attach_idle (nest->other, G_PRIORITY_DEFAULT, count_and_stop, &nest->others);
  return nest_outer (nest);
}

static void
test_loop_nested_in_a_turn (gconstpointer nested)
{
  Stage stage;
  Nest nest = { &stage };

  stage_begin (&stage, nested);
  nest.other = gaio_context_create_main_context (stage.context, NULL, NULL);
  settle (&stage);
  attach_idle (stage.inner, 0, attach_others_and_nest, &nest);
  until (&stage, nest.calls == 1);
  settle (&stage);
  g_assert_cmpuint (nest.timeouts, ==, 1);
  g_assert_cmpuint (nest.idles, ==, 1);
  g_assert_cmpuint (nest.others, ==, 1);
  g_main_context_unref (nest.other);
  stage_end (&stage);
}

static gboolean
nest_inner (gpointer data)
{
  Nest *nest = data;
  GSource *timeout = g_timeout_source_new (2);

  nest->calls++;
  g_source_set_callback (timeout, count_and_stop, &nest->timeouts, NULL);
  g_source_attach (timeout, nest->stage->inner);
  g_source_unref (timeout);
  while (nest->timeouts == 0)
    g_main_context_iteration (nest->stage->inner, TRUE);
  return G_SOURCE_REMOVE;
}

static void
test_loop_nested_on_itself (gconstpointer nested)
{
  Stage stage;
  Nest nest = { &stage };
  guint calls = 0;
  gint fd = eventfd_new (0);

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  attach_idle (stage.inner, 0, nest_inner, &nest);
  until (&stage, nest.calls == 1);
  eventfd_add (fd);
  until (&stage, calls == 1);
  stage_end (&stage);
  close (fd);
}

/* The wake-up is gone with it, and what was attached has to be heard of. */
static void
test_iterated_by_the_user (gconstpointer nested)
{
  Stage stage;
  guint calls = 0, idles = 0, timeouts = 0;
  gint fd = eventfd_new (0);
  GSource *timeout = g_timeout_source_new (5);

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, 0, count_and_stop, &idles);
  attach_fd (stage.inner, fd, take_fd, &calls);
  g_source_set_callback (timeout, count_and_stop, &timeouts, NULL);
  g_source_attach (timeout, stage.inner);
  g_source_unref (timeout);
  while (g_main_context_iteration (stage.inner, FALSE))
    ;
  g_assert_cmpuint (idles, ==, 1);
  until (&stage, timeouts == 1);
  eventfd_add (fd);
  until (&stage, calls == 1);
  stage_end (&stage);
  close (fd);
}

/* --- Others --- */

static void
test_owned_by_another_thread_is_tried_later (gconstpointer nested)
{
  Stage stage;
  Holder holder = { NULL };
  guint calls = 0, rounds = 0;
  gint fd = eventfd_new (0);
  GThread *thread;
  guint interruptions = test_interruptions ();
  gint64 end;

  stage_begin (&stage, nested);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  holder.inner = stage.inner;
  thread = g_thread_new ("holder", hold, &holder);
  while (!atomic_load (&holder.holds))
    sched_yield ();
  eventfd_add (fd);
  end = g_get_monotonic_time () + 100000;
  /* It does not spin: a few rounds each 10 ms at most. */
  for (; g_get_monotonic_time () < end; rounds++)
    round_of (&stage, TRUE);
  g_assert_cmpuint (rounds, <, 60 + 2 * (test_interruptions () - interruptions));
  g_assert_cmpuint (calls, ==, 0);
  atomic_store (&holder.lets_go, TRUE);
  until (&stage, calls == 1);
  g_thread_join (thread);
  stage_end (&stage);
  close (fd);
}

/* One that is always ready leaves others their turn. */
static void
test_busy_idle_source_starves_nobody (gconstpointer nested)
{
  Stage stage;
  guint busy = 0, others = 0, handled = 0, low = 0;
  gint fd = eventfd_new (0);
  GaioHandler *handler;
  g_autoptr (GMainContext) other = NULL;
  gint own = eventfd_new (0);
  guint own_calls = 0;

  stage_begin (&stage, nested);
  other = gaio_context_create_main_context (stage.context, NULL, NULL);
  attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_again, &busy);
  attach_fd (stage.inner, own, take_fd, &own_calls);
  until (&stage, busy > 3);
  attach_idle (other, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &others);
  handler = add_fd (stage.context, fd, G_IO_IN, take_fd, &handled, NULL);
  eventfd_add (fd);
  eventfd_add (own);
  if (stage.outer != NULL)
    attach_idle (stage.outer, G_PRIORITY_DEFAULT_IDLE, count_and_stop, &low);
  until (&stage,
         others == 1 && handled == 1 && own_calls == 1 && (stage.outer == NULL || low == 1));
  gaio_clear_handler (&handler);
  stage_end (&stage);
  close (fd);
  close (own);
}

static gboolean
iterate_here (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_iterate (story->stage->context, 0);
  return G_SOURCE_REMOVE;
}

/* Whatever its priority, and whether or not the user's iteration polls. */
static void
test_round_in_an_iteration_by_the_user (gconstpointer nested)
{
  for (gint priority = -1; priority <= 1; priority++)
    {
      Stage stage;
      Story story = { &stage };
      guint calls = 0;

      stage_begin (&stage, NULL);
      settle (&stage);
      attach_idle (stage.inner, priority, iterate_here, &story);
      attach_idle (stage.inner, priority, count_and_stop, &calls);
      while (g_main_context_iteration (stage.inner, FALSE))
        ;
      until (&stage, story.calls == 1 && calls == 1);
      stage_end (&stage);
    }
}

static void
test_pending_calls_nothing_twice (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, nested);
  settle (&stage);
  attach_idle (stage.inner, -1, count_again, &calls);
  until (&stage, calls == 1);
  for (guint i = 0; i < 10; i++)
    {
      guint before = calls;

      g_main_context_pending (stage.inner);
      round_of (&stage, FALSE);
      g_assert_cmpuint (calls, <=, before + 1);
    }
  until (&stage, calls > 5);
  stage_end (&stage);
}

/* Nobody runs the main context that it waits for. */
static void
test_low_priority_goes_on_without_glib (void)
{
  Stage stage;
  guint calls = 0;

  stage_begin (&stage, "nested");
  attach_idle (stage.inner, G_PRIORITY_DEFAULT_IDLE, count_again, &calls);
  until (&stage, calls > 1);
  for (guint i = 1; i < 10; i++)
    {
      guint before = calls;

      while (calls == before)
        gaio_context_iterate (stage.context, -1);
    }
  stage_end (&stage);
}

static gboolean
leave_ready (gint fd, GIOCondition condition, gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static void
test_always_ready_fd_starves_no_other (gconstpointer nested)
{
  Stage stage;
  guint busy = 0, calls = 0;
  gint fd = eventfd_new (1);
  g_autoptr (GMainContext) other = NULL;

  stage_begin (&stage, nested);
  other = gaio_context_create_main_context (stage.context, NULL, NULL);
  attach_fd (stage.inner, fd, leave_ready, &busy);
  attach_idle (other, G_PRIORITY_DEFAULT_IDLE, count_again, &calls);
  until (&stage, busy > 10 && calls > 10);
  stage_end (&stage);
  close (fd);
}

/* Nothing is called in between that would have it looked at. */
static void
test_number_reused_outside_of_a_turn (gconstpointer nested)
{
  Stage stage;
  guint calls = 0;
  gint fd = eventfd_new (0), other = eventfd_new (0);
  GSource *source;

  stage_begin (&stage, nested);
  source = attach_fd (stage.inner, fd, never_fd, NULL);
  settle (&stage);
  g_source_destroy (source);
  g_assert_cmpint (dup2 (other, fd), ==, fd);
  close (other);
  attach_fd (stage.inner, fd, take_fd, &calls);
  settle (&stage);
  eventfd_add (fd);
  settle (&stage);
  g_assert_cmpuint (calls, ==, 1);
  stage_end (&stage);
  close (fd);
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
  add_both ("/serve/turn-is-not-followed-by-an-empty-one",
            test_turn_is_not_followed_by_an_empty_one);
  add_both ("/serve/number-reused-in-a-callback", test_number_reused_in_a_callback);
  add_both ("/serve/gio-reads-in-it", test_gio_reads_in_it);
  add_both ("/serve/closed-from-outside-is-swept", test_closed_from_outside_is_swept);
  add_both ("/serve/closed-by-others-is-swept", test_closed_by_others_is_swept);
  add_both ("/serve/closed-in-a-call-is-seen-at-once", test_closed_in_a_call_is_seen_at_once);
  add_both ("/serve/fd-closed-under-its-source-is-told", test_fd_closed_under_its_source_is_told);
  add_both ("/serve/goes-with-its-owner", test_goes_with_its_owner);
  add_both ("/serve/what-is-under-way-ends-with-the-owner", test_under_way_ends_with_the_owner);
  add_both ("/serve/busy-source-ends-with-the-owner", test_busy_source_ends_with_the_owner);
  add_both ("/serve/several-of-one-owner", test_several_of_one_owner);
  add_both ("/serve/owner-goes-in-its-own-turn", test_owner_goes_in_its_own_turn);
  add_both ("/serve/owner-goes-in-another-thread", test_owner_goes_in_another_thread);
  add_both ("/serve/stopped-in-its-own-turn", test_stopped_in_its_own_turn);
  add_both ("/serve/closed-context-serves-no-more", test_closed_context_serves_no_more);
  add_both ("/serve/served-again-after-a-stop", test_served_again_after_a_stop);
  add_both ("/serve/served-again-at-once", test_served_again_at_once);
  add_both ("/serve/regular-file-is-always-ready", test_regular_file_is_always_ready);
  g_test_add_func ("/serve/moved-between-main-contexts", test_moved_between_main_contexts);
  add_both ("/serve/loop-nested-in-a-turn", test_loop_nested_in_a_turn);
  add_both ("/serve/loop-nested-on-itself", test_loop_nested_on_itself);
  add_both ("/serve/iterated-by-the-user", test_iterated_by_the_user);
  add_both ("/serve/owned-by-another-thread-is-tried-later",
            test_owned_by_another_thread_is_tried_later);
  add_both ("/serve/busy-idle-source-starves-nobody", test_busy_idle_source_starves_nobody);
  g_test_add_data_func ("/serve/round-in-an-iteration-by-the-user", NULL,
                        test_round_in_an_iteration_by_the_user);
  add_both ("/serve/pending-calls-nothing-twice", test_pending_calls_nothing_twice);
  g_test_add_func ("/serve/low-priority-goes-on-without-glib",
                   test_low_priority_goes_on_without_glib);
  add_both ("/serve/always-ready-fd-starves-no-other", test_always_ready_fd_starves_no_other);
  add_both ("/serve/number-reused-outside-of-a-turn", test_number_reused_outside_of_a_turn);
  add_both ("/serve/without-ownerless-polling-is-not-supported",
            test_without_ownerless_polling_is_not_supported);
  add_both ("/serve/served-twice-fails", test_served_twice_fails);
  g_test_add_func ("/serve/own-main-context-fails", test_own_main_context_fails);
  g_test_add_func ("/serve/nested-in-what-it-serves-fails", test_nested_in_what_it_serves_fails);
  add_both ("/serve/owned-by-another-thread-fails", test_owned_by_another_thread_fails);
  add_both ("/serve/no-fd-left-is-an-error", test_no_fd_left_is_an_error);

  return g_test_run ();
}

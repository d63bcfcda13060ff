/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a main context that a context serves. */
#include <semaphore.h>
#include <sys/socket.h>

#include "test-serve.h"

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

typedef struct
{
  GMainContext *main_context;
  sem_t next, done;
} Foreigner;

static void
wait_for (sem_t *sem)
{
  while (sem_wait (sem) != 0)
    ;
}

static gpointer
own_and_iterate (gpointer data)
{
  Foreigner *foreigner = data;
  guint calls = 0;

  g_assert_true (g_main_context_acquire (foreigner->main_context));
  attach_idle (foreigner->main_context, 0, count_and_stop, &calls);
  sem_post (&foreigner->done);
  wait_for (&foreigner->next);
  while (g_main_context_iteration (foreigner->main_context, FALSE))
    ;
  g_assert_cmpuint (calls, ==, 1);
  sem_post (&foreigner->done);
  wait_for (&foreigner->next);
  g_main_context_release (foreigner->main_context);
  return NULL;
}

static void
do_nothing (gpointer data)
{
}

/* Its last turns come when the other thread has let go. Nothing else that prepares it may lose
 * them. */
static void
test_owner_goes_while_another_thread_iterates (gconstpointer nested)
{
  Stage stage;
  GObject *owner = g_object_new (G_TYPE_OBJECT, NULL);
  Foreigner foreigner = { NULL };
  GThread *thread;

  stage_begin (&stage, nested);
  sem_init (&foreigner.next, 0, 0);
  sem_init (&foreigner.done, 0, 0);
  foreigner.main_context = gaio_context_create_main_context (stage.context, owner, NULL);
  settle (&stage);
  thread = g_thread_new ("foreigner", own_and_iterate, &foreigner);
  wait_for (&foreigner.done);
  g_object_unref (owner);
  sem_post (&foreigner.next);
  wait_for (&foreigner.done);
  settle (&stage);
  sem_post (&foreigner.next);
  g_thread_join (thread);
  gaio_context_call_in (stage.context, foreigner.main_context, do_nothing, NULL);
  until (&stage, count_served (&stage) == 1);
  g_main_context_unref (foreigner.main_context);
  sem_destroy (&foreigner.next);
  sem_destroy (&foreigner.done);
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

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_both ("/serve-life/goes-with-its-owner", test_goes_with_its_owner);
  add_both ("/serve-life/what-is-under-way-ends-with-the-owner",
            test_under_way_ends_with_the_owner);
  add_both ("/serve-life/busy-source-ends-with-the-owner", test_busy_source_ends_with_the_owner);
  add_both ("/serve-life/several-of-one-owner", test_several_of_one_owner);
  add_both ("/serve-life/owner-goes-in-its-own-turn", test_owner_goes_in_its_own_turn);
  add_both ("/serve-life/owner-goes-in-another-thread", test_owner_goes_in_another_thread);
  add_both ("/serve-life/owner-goes-while-another-thread-iterates",
            test_owner_goes_while_another_thread_iterates);
  add_both ("/serve-life/stopped-in-its-own-turn", test_stopped_in_its_own_turn);
  add_both ("/serve-life/closed-context-serves-no-more", test_closed_context_serves_no_more);
  add_both ("/serve-life/served-again-after-a-stop", test_served_again_after_a_stop);
  add_both ("/serve-life/served-again-at-once", test_served_again_at_once);
  add_both ("/serve-life/regular-file-is-always-ready", test_regular_file_is_always_ready);
  g_test_add_func ("/serve-life/moved-between-main-contexts", test_moved_between_main_contexts);
  return g_test_run ();
}

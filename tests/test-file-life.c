/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How file operations end: each function is called once, whatever comes in between. */
#include "test-file.h"
#include "test-loop.h"

#define MANY 1000

static void
submit_many (Desk *desk, End *ends, char (*buffers)[16], GaioIOOp **ops)
{
  for (guint i = 0; i < MANY; i++)
    {
      ops[i] = gaio_context_submit_pread (desk->context, desk->fd, buffers[i], 16, 0, on_end,
                                          &ends[i], NULL);
      g_assert_nonnull (ops[i]);
    }
}

/* Either it has been done, or @domain and @code say why not. */
static guint
check_ends (End *ends, GaioIOOp **ops, GQuark domain, gint code)
{
  guint failed = 0;

  for (guint i = 0; i < MANY; i++)
    {
      g_assert_cmpuint (ends[i].calls, ==, 1);
      if (ends[i].error != NULL)
        {
          g_assert_error (ends[i].error, domain, code);
          g_clear_error (&ends[i].error);
          failed++;
        }
      gaio_io_op_unref (ops[i]);
    }
  return failed;
}

typedef struct
{
  Desk desk;
  End ends[MANY];
  GaioIOOp *ops[MANY];
  char buffers[MANY][16];
} Crowd;

static Crowd *
crowd_begin (gconstpointer how)
{
  Crowd *crowd = g_new0 (Crowd, 1);
  End end;

  desk_begin (&crowd->desk, how);
  write_at (&crowd->desk, crowd->desk.fd, crowd->buffers, sizeof crowd->buffers, 0, &end);
  submit_many (&crowd->desk, crowd->ends, crowd->buffers, crowd->ops);
  return crowd;
}

static gboolean
all_ended (const Crowd *crowd)
{
  for (guint i = 0; i < MANY; i++)
    if (crowd->ends[i].calls == 0)
      return FALSE;
  return TRUE;
}

static void
crowd_end (Crowd *crowd)
{
  desk_end (&crowd->desk);
  g_free (crowd);
}

static void
test_cancelled_before_it_began (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);

  for (guint i = 0; i < MANY; i++)
    gaio_io_op_cancel (crowd->ops[i]);
  g_assert_cmpuint (crowd->ends[0].calls, ==, 0);
  desk_until (&crowd->desk, all_ended (crowd));
  for (guint i = 0; i < MANY; i++)
    gaio_io_op_cancel (crowd->ops[i]);
  g_assert_cmpuint (check_ends (crowd->ends, crowd->ops, G_IO_ERROR, G_IO_ERROR_CANCELLED), ==,
                    MANY);
  crowd_end (crowd);
}

static void
test_cancelled_in_the_middle (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);

  desk_round (&crowd->desk, FALSE);
  for (guint i = 0; i < MANY; i++)
    gaio_io_op_cancel (crowd->ops[i]);
  desk_until (&crowd->desk, all_ended (crowd));
  check_ends (crowd->ends, crowd->ops, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  crowd_end (crowd);
}

static void
test_context_closed_before_the_first_round (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);

  gaio_context_close (crowd->desk.context);
  g_assert_true (all_ended (crowd));
  g_assert_cmpuint (check_ends (crowd->ends, crowd->ops, GAIO_ERROR, GAIO_ERROR_CLOSED), ==, MANY);
  crowd_end (crowd);
}

static void
test_context_closed_in_the_middle (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);

  desk_round (&crowd->desk, FALSE);
  gaio_context_close (crowd->desk.context);
  g_assert_true (all_ended (crowd));
  check_ends (crowd->ends, crowd->ops, GAIO_ERROR, GAIO_ERROR_CLOSED);
  crowd_end (crowd);
}

static void
close_context (gssize result, const GError *error, gpointer context)
{
  gaio_context_close (context);
}

static void
test_context_closed_by_its_function (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);

  drop (gaio_context_submit_fsync (crowd->desk.context, crowd->desk.fd, close_context,
                                   crowd->desk.context, NULL));
  for (guint i = 0; i < 100000 && !gaio_context_is_closed (crowd->desk.context); i++)
    desk_round (&crowd->desk, FALSE);
  g_assert_true (all_ended (crowd));
  check_ends (crowd->ends, crowd->ops, GAIO_ERROR, GAIO_ERROR_CLOSED);
  crowd_end (crowd);
}

/* --- Cancellation --- */

static void
cancel_itself (gssize result, const GError *error, gpointer data)
{
  GaioIOOp **op = data;

  gaio_io_op_cancel (*op);
  g_clear_pointer (op, gaio_io_op_unref);
}

static void
test_cancelled_in_its_function (gconstpointer how)
{
  Desk desk;
  GaioIOOp *op;

  desk_begin (&desk, how);
  op = gaio_context_submit_fsync (desk.context, desk.fd, cancel_itself, &op, NULL);
  desk_until (&desk, op == NULL);
  desk_end (&desk);
}

static void
test_handle_outlives_the_context (gconstpointer how)
{
  Desk desk;
  End end = { 0 };
  GaioIOOp *op;

  desk_begin (&desk, how);
  op = gaio_context_submit_fsync (desk.context, desk.fd, on_end, &end, NULL);
  desk_until (&desk, end.calls == 1);
  desk_end (&desk);
  gaio_io_op_cancel (op);
  gaio_io_op_unref (op);
}

/* --- Nested rounds --- */

typedef struct
{
  Desk *desk;
  End inner;
  guint calls;
} Nest;

static void
read_in_a_nested_round (gssize result, const GError *error, gpointer data)
{
  Nest *nest = data;

  drop (
      gaio_context_submit_fsync (nest->desk->context, nest->desk->fd, on_end, &nest->inner, NULL));
  while (nest->inner.calls == 0)
    if (nest->desk->main_context != NULL)
      g_main_context_iteration (nest->desk->main_context, TRUE);
    else
      gaio_context_iterate (nest->desk->context, -1);
  nest->calls++;
}

static void
test_nested_rounds (gconstpointer how)
{
  Desk desk;
  Nest nest = { .desk = &desk };

  desk_begin (&desk, how);
  drop (gaio_context_submit_fsync (desk.context, desk.fd, read_in_a_nested_round, &nest, NULL));
  desk_until (&desk, nest.calls == 1);
  g_assert_cmpuint (nest.inner.calls, ==, 1);
  desk_end (&desk);
}

/* --- Threads --- */

typedef struct
{
  Loop *loop;
  gint fd;
  atomic_uint ended;
  guint n;
} Submitter;

static void
count_end (gssize result, const GError *error, gpointer submitter)
{
  g_assert_true (error == NULL || g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED));
  atomic_fetch_add (&((Submitter *) submitter)->ended, 1);
}

static gpointer
submit_from_thread (gpointer data)
{
  Submitter *self = data;
  static char buffer[64];

  for (guint i = 0; i < self->n; i++)
    {
      GaioIOOp *op = gaio_context_submit_pwrite (self->loop->context, self->fd, buffer,
                                                 sizeof buffer, 0, count_end, self, NULL);

      if (i % 3 == 0)
        gaio_io_op_cancel (op);
      gaio_io_op_unref (op);
    }
  return NULL;
}

static void
test_submitted_from_other_threads (gconstpointer nested)
{
  Loop loop;
  Submitter submitters[4];
  pthread_t threads[4];
  gint fd = temporary_file ();

  loop_start (&loop, nested);
  for (guint i = 0; i < G_N_ELEMENTS (submitters); i++)
    {
      submitters[i] = (Submitter){ .loop = &loop, .fd = fd, .n = storm_size () / 200 };
      threads[i] = spawn (submit_from_thread, &submitters[i]);
    }
  for (guint i = 0; i < G_N_ELEMENTS (submitters); i++)
    {
      join (threads[i]);
      wait_for (atomic_load (&submitters[i].ended) == submitters[i].n);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (fd);
}

/* One at a time: nothing else wakes the loop meanwhile. */
static void
test_submission_wakes_the_loop (gconstpointer nested)
{
  Loop loop;
  Submitter submitter = { .loop = &loop, .fd = temporary_file () };

  loop_start (&loop, nested);
  for (guint i = 1; i <= 50; i++)
    {
      drop (gaio_context_submit_fsync (loop.context, submitter.fd, count_end, &submitter, NULL));
      wait_for (atomic_load (&submitter.ended) == i);
    }
  loop_stop (&loop);
  loop_free (&loop);
  close (submitter.fd);
}

/* The thread that gave them to the kernel ends before they do. */
static gpointer
run_a_round (gpointer context)
{
  gaio_context_iterate (context, 0);
  return NULL;
}

static void
test_thread_that_started_them_ends (void)
{
  Crowd *crowd = crowd_begin (GINT_TO_POINTER (ALONE));

  join (spawn (run_a_round, crowd->desk.context));
  desk_until (&crowd->desk, all_ended (crowd));
  g_assert_cmpuint (check_ends (crowd->ends, crowd->ops, GAIO_ERROR, GAIO_ERROR_FAILED), ==, 0);
  crowd_end (crowd);
}

/* --- Processes --- */

static void
test_child_leaves_them_alone (gconstpointer how)
{
  Crowd *crowd = crowd_begin (how);
  pid_t pid;

  desk_round (&crowd->desk, FALSE);
  pid = fork ();
  if (pid == 0)
    {
      g_autoptr (GError) error = NULL;

      gaio_io_op_cancel (crowd->ops[MANY - 1]);
      if (gaio_context_submit_fsync (crowd->desk.context, crowd->desk.fd, on_end, NULL, &error) !=
              NULL ||
          !g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED))
        _exit (1);
      for (guint i = 0; i < MANY; i++)
        gaio_io_op_unref (crowd->ops[i]);
      gaio_context_close (crowd->desk.context);
      _exit (0);
    }
  assert_exits_well (pid);
  desk_until (&crowd->desk, all_ended (crowd));
  g_assert_cmpuint (check_ends (crowd->ends, crowd->ops, GAIO_ERROR, GAIO_ERROR_FAILED), ==, 0);
  crowd_end (crowd);
}

/* --- As GIO has it --- */

typedef struct
{
  GAsyncResult *result;
  GMainContext *main_context;
} Answer;

static void
on_answer (GObject *source, GAsyncResult *result, gpointer data)
{
  Answer *answer = data;

  answer->result = g_object_ref (result);
  answer->main_context = g_main_context_ref_thread_default ();
}

/* The results of GIO come in a main context. */
static void
until_answered (Desk *desk, Answer *answer)
{
  while (answer->result == NULL)
    g_main_context_iteration (desk->main_context, TRUE);
  g_assert_true (answer->main_context == desk->main_context);
  g_main_context_unref (answer->main_context);
}

static void
test_gio_shape (void)
{
  Desk desk;
  Answer answer = { 0 };
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) hello = g_bytes_new_static ("hello", 5), bytes = NULL;

  desk_begin (&desk, GINT_TO_POINTER (NESTED));
  gaio_context_pwrite_async (desk.context, desk.fd, hello, 0, NULL, on_answer, &answer);
  until_answered (&desk, &answer);
  g_assert_cmpint (gaio_context_pwrite_finish (desk.context, answer.result, &error), ==, 5);
  g_assert_no_error (error);
  g_clear_object (&answer.result);

  gaio_context_fsync_async (desk.context, desk.fd, NULL, on_answer, &answer);
  until_answered (&desk, &answer);
  g_assert_true (gaio_context_fsync_finish (desk.context, answer.result, &error));
  g_assert_no_error (error);
  g_clear_object (&answer.result);

  gaio_context_pread_async (desk.context, desk.fd, 100, 1, NULL, on_answer, &answer);
  until_answered (&desk, &answer);
  bytes = gaio_context_pread_finish (desk.context, answer.result, &error);
  g_assert_no_error (error);
  g_assert_cmpmem (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), "ello", 4);
  g_clear_object (&answer.result);
  desk_end (&desk);
}

static void
test_gio_cancelled (gconstpointer early)
{
  Desk desk;
  Answer answer = { 0 };
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;

  desk_begin (&desk, GINT_TO_POINTER (NESTED));
  if (early != NULL)
    g_cancellable_cancel (cancellable);
  gaio_context_pread_async (desk.context, desk.fd, 100, 0, cancellable, on_answer, &answer);
  g_cancellable_cancel (cancellable);
  g_assert_null (answer.result);
  until_answered (&desk, &answer);
  g_assert_null (gaio_context_pread_finish (desk.context, answer.result, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_object (&answer.result);
  desk_end (&desk);
}

static void
test_gio_closed (void)
{
  Desk desk;
  Answer answer = { 0 };
  g_autoptr (GError) error = NULL;

  desk_begin (&desk, GINT_TO_POINTER (NESTED));
  gaio_context_close (desk.context);
  gaio_context_pread_async (desk.context, desk.fd, 100, 0, NULL, on_answer, &answer);
  until_answered (&desk, &answer);
  g_assert_null (gaio_context_pread_finish (desk.context, answer.result, &error));
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  g_clear_object (&answer.result);
  desk_end (&desk);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  add_ways ("/file-life/cancelled-before-it-began", test_cancelled_before_it_began);
  add_ways ("/file-life/cancelled-in-the-middle", test_cancelled_in_the_middle);
  add_ways ("/file-life/context-closed-before-the-first-round",
            test_context_closed_before_the_first_round);
  add_ways ("/file-life/context-closed-in-the-middle", test_context_closed_in_the_middle);
  add_ways ("/file-life/context-closed-by-its-function", test_context_closed_by_its_function);
  add_ways ("/file-life/cancelled-in-its-function", test_cancelled_in_its_function);
  add_ways ("/file-life/handle-outlives-the-context", test_handle_outlives_the_context);
  add_ways ("/file-life/nested-rounds", test_nested_rounds);
  g_test_add_data_func ("/file-life/submitted-from-other-threads/alone", NULL,
                        test_submitted_from_other_threads);
  g_test_add_data_func ("/file-life/submitted-from-other-threads/nested", "",
                        test_submitted_from_other_threads);
  g_test_add_data_func ("/file-life/submission-wakes-the-loop/alone", NULL,
                        test_submission_wakes_the_loop);
  g_test_add_data_func ("/file-life/submission-wakes-the-loop/nested", "",
                        test_submission_wakes_the_loop);
  g_test_add_func ("/file-life/thread-that-started-them-ends", test_thread_that_started_them_ends);
  add_ways ("/file-life/child-leaves-them-alone", test_child_leaves_them_alone);
  g_test_add_func ("/file-life/gio-shape", test_gio_shape);
  g_test_add_data_func ("/file-life/gio-cancelled/late", NULL, test_gio_cancelled);
  g_test_add_data_func ("/file-life/gio-cancelled/early", "", test_gio_cancelled);
  g_test_add_func ("/file-life/gio-closed", test_gio_closed);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many threads submit and cancel file operations while others run, move and close the context: each
 * ends once, and nobody touches its buffer afterwards. */
#include "test-file.h"
#include "test-loop.h"

/* The kernel takes longer for a file operation than others for theirs. */
#define SLOWNESS 20

#define SIZE 64       /* of each operation */
#define N_SLOTS 256   /* of that size, in the file */
#define IN_FILE 0x11  /* what all of these have */
#define SCRIBBLE 0xee /* what is written into buffers that have come back */
#define N_KEPT 128    /* how many of these are kept to be looked at */

/* GLib makes the table of the sources of a GMainContext longer under a lock that ThreadSanitizer
 * does not see. */
const char *__tsan_default_suppressions (void);

const char *
__tsan_default_suppressions (void)
{
  return "race:g_realloc\n";
}

typedef struct
{
  GaioContext *context;
  gint fd;
  atomic_uint submitted, ended, cancelled;
  pthread_mutex_t mutex; /* of @kept: contexts have one owner after the other */
  guint8 *kept[N_KEPT];
  guint n_kept;
} Storm;

typedef struct
{
  Storm *storm;
  guint8 *buffer;
  gboolean reads;
} Op;

typedef struct
{
  Storm *storm;
  guint seed;
  guint n;
  pthread_t thread;
} Worker;

static gboolean
is_filled (const guint8 *buffer, guint8 byte)
{
  for (guint i = 0; i < SIZE; i++)
    if (buffer[i] != byte)
      return FALSE;
  return TRUE;
}

/* Looks at a buffer a while after it has come back, and frees it. */
static void
keep (Storm *storm, guint8 *buffer)
{
  guint8 *old;

  memset (buffer, SCRIBBLE, SIZE);
  pthread_mutex_lock (&storm->mutex);
  old = storm->kept[storm->n_kept % N_KEPT];
  storm->kept[storm->n_kept++ % N_KEPT] = buffer;
  pthread_mutex_unlock (&storm->mutex);
  if (old != NULL)
    g_assert_true (is_filled (old, SCRIBBLE));
  g_free (old);
}

static void
on_op_ended (gssize result, const GError *error, gpointer data)
{
  Op *op = data;

  if (error == NULL)
    {
      g_assert_cmpint (result, ==, SIZE);
      g_assert_true (is_filled (op->buffer, IN_FILE));
    }
  else if (!g_error_matches (error, GAIO_ERROR, GAIO_ERROR_CLOSED))
    {
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      atomic_fetch_add (&op->storm->cancelled, 1);
    }
  keep (op->storm, op->buffer);
  atomic_fetch_add (&op->storm->ended, 1);
  g_free (op);
}

/* FALSE if the context is closed. */
static gboolean
submit_one (Storm *storm, guint what, GaioIOOp **handle)
{
  g_autoptr (GError) error = NULL;
  Op *op = g_new0 (Op, 1);
  goffset offset = what / 2 % N_SLOTS * SIZE;

  op->storm = storm;
  op->reads = what % 2;
  op->buffer = g_malloc (SIZE);
  memset (op->buffer, op->reads ? 0 : IN_FILE, SIZE);
  atomic_fetch_add (&storm->submitted, 1);
  *handle = op->reads ? gaio_context_submit_pread (storm->context, storm->fd, op->buffer, SIZE,
                                                   offset, on_op_ended, op, &error)
                      : gaio_context_submit_pwrite (storm->context, storm->fd, op->buffer, SIZE,
                                                    offset, on_op_ended, op, &error);
  if (*handle != NULL)
    return TRUE;
  g_assert_error (error, GAIO_ERROR, GAIO_ERROR_CLOSED);
  atomic_fetch_sub (&storm->submitted, 1);
  g_free (op->buffer);
  g_free (op);
  return FALSE;
}

/* Cancels some of the last that it has submitted. */
static gpointer
submit_and_cancel (gpointer data)
{
  Worker *self = data;
  GaioIOOp *ops[16] = { NULL };

  for (guint i = 0; i < self->n; i++)
    {
      guint what = rand_r (&self->seed), place = what / 4 % G_N_ELEMENTS (ops);

      if (ops[place] != NULL && what % 3 == 0)
        gaio_io_op_cancel (ops[place]);
      g_clear_pointer (&ops[place], gaio_io_op_unref);
      if (!submit_one (self->storm, what, &ops[place]))
        break;
      /* No thread gets far ahead of the loop. */
      while (atomic_load (&self->storm->submitted) - atomic_load (&self->storm->ended) > 20000)
        sched_yield ();
    }
  for (guint i = 0; i < G_N_ELEMENTS (ops); i++)
    g_clear_pointer (&ops[i], gaio_io_op_unref);
  return NULL;
}

static void
storm_begin (Storm *storm, GaioContext *context)
{
  char content[N_SLOTS * SIZE];

  *storm = (Storm){ .context = context, .fd = temporary_file () };
  pthread_mutex_init (&storm->mutex, NULL);
  memset (content, IN_FILE, sizeof content);
  g_assert_cmpint (pwrite (storm->fd, content, sizeof content, 0), ==, sizeof content);
}

/* No buffer has been written from after it had come back. */
static void
storm_end (Storm *storm)
{
  guint8 content[N_SLOTS * SIZE];

  g_assert_cmpuint (atomic_load (&storm->ended), ==, atomic_load (&storm->submitted));
  for (guint i = 0; i < N_KEPT; i++)
    {
      if (storm->kept[i] != NULL)
        g_assert_true (is_filled (storm->kept[i], SCRIBBLE));
      g_free (storm->kept[i]);
    }
  g_assert_cmpint (pread (storm->fd, content, sizeof content, 0), ==, sizeof content);
  for (guint i = 0; i < sizeof content; i++)
    g_assert_cmpuint (content[i], ==, IN_FILE);
  pthread_mutex_destroy (&storm->mutex);
  close (storm->fd);
}

static void
workers_start (Worker *workers, Storm *storm, guint n)
{
  for (guint i = 0; i < N_THREADS; i++)
    {
      workers[i] = (Worker){ .storm = storm, .seed = g_test_rand_int (), .n = n };
      workers[i].thread = spawn (submit_and_cancel, &workers[i]);
    }
}

static void
workers_join (Worker *workers)
{
  for (guint i = 0; i < N_THREADS; i++)
    join (workers[i].thread);
}

static void
test_cancel_storm (gconstpointer nested)
{
  Loop loop;
  Storm storm;
  Worker workers[N_THREADS];

  loop_start (&loop, nested);
  storm_begin (&storm, loop.context);
  workers_start (workers, &storm, storm_size () / SLOWNESS / N_THREADS);
  workers_join (workers);
  wait_for (atomic_load (&storm.ended) == atomic_load (&storm.submitted));
  g_assert_cmpuint (atomic_load (&storm.cancelled), >, 0);
  loop_stop (&loop);
  loop_free (&loop);
  storm_end (&storm);
}

/* The context goes from one main loop to another all the time. */
static void
test_moving_storm (void)
{
  Loop loops[2];
  Storm storm;
  Worker workers[N_THREADS];
  g_autoptr (GaioContext) context = gaio_context_new ();
  guint n = storm_size () / SLOWNESS / N_THREADS;

  for (guint i = 0; i < 2; i++)
    loop_start (&loops[i], "");
  storm_begin (&storm, context);
  workers_start (workers, &storm, n);
  for (guint i = 0; atomic_load (&storm.ended) < N_THREADS * n; i++)
    {
      guint ended = atomic_load (&storm.ended);

      gaio_context_attach (context, loops[i % 2].main_context, NULL);
      wait_for (atomic_load (&storm.ended) != ended ||
                atomic_load (&storm.ended) == atomic_load (&storm.submitted));
      gaio_context_detach (context);
    }
  workers_join (workers);
  for (guint i = 0; i < 2; i++)
    {
      loop_stop (&loops[i]);
      loop_free (&loops[i]);
    }
  gaio_context_close (context);
  storm_end (&storm);
}

/* It is closed while they submit. */
static void
test_close_storm (gconstpointer nested)
{
  for (guint n = 0; n < MAX (storm_size () / 10000, 5); n++)
    {
      Loop loop;
      Storm storm;
      Worker workers[N_THREADS];

      loop_start (&loop, nested);
      storm_begin (&storm, loop.context);
      workers_start (workers, &storm, 10000);
      wait_for (atomic_load (&storm.submitted) > n % 10 * 100);
      gaio_context_close (loop.context);
      workers_join (workers);
      wait_for (atomic_load (&storm.ended) == atomic_load (&storm.submitted));
      loop_stop (&loop);
      loop_free (&loop);
      storm_end (&storm);
    }
}

/* The last reference goes, with a thousand operations at any stage. */
static void
test_drop_storm (gconstpointer how)
{
  for (guint n = 0; n < MAX (storm_size () / 10000, 5); n++)
    {
      Desk desk;
      Storm storm;
      GaioContext *context;

      desk_begin (&desk, how);
      context = g_object_ref (desk.context);
      storm_begin (&storm, context);
      for (guint i = 0; i < 1000; i++)
        {
          GaioIOOp *op;

          g_assert_true (submit_one (&storm, g_test_rand_int (), &op));
          if (i % 100 == n % 100)
            desk_round (&desk, FALSE);
          if (i % 7 == 0)
            gaio_io_op_cancel (op);
          gaio_io_op_unref (op);
        }
      g_object_unref (context);
      desk_end (&desk);
      storm_end (&storm);
    }
}

/* --- As GIO has it --- */

#define N_TASKS 500

typedef struct
{
  GCancellable *cancellables[N_TASKS];
  GBytes *bytes;
  guint ended, cancelled;
} Tasks;

static void
on_read (GObject *source, GAsyncResult *result, gpointer data)
{
  Tasks *tasks = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = gaio_context_pread_finish (GAIO_CONTEXT (source), result, &error);

  tasks->ended++;
  if (error != NULL)
    {
      g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      tasks->cancelled++;
      return;
    }
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, SIZE);
  g_assert_true (is_filled (g_bytes_get_data (bytes, NULL), IN_FILE));
}

static void
on_written (GObject *source, GAsyncResult *result, gpointer data)
{
  Tasks *tasks = data;
  g_autoptr (GError) error = NULL;

  tasks->ended++;
  if (gaio_context_pwrite_finish (GAIO_CONTEXT (source), result, &error) == SIZE)
    return;
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  tasks->cancelled++;
}

static gpointer
cancel_all (gpointer data)
{
  Tasks *tasks = data;

  for (guint i = 0; i < N_TASKS; i += 2)
    g_cancellable_cancel (tasks->cancellables[i]);
  return NULL;
}

static void
begin_task (Desk *desk, Tasks *tasks, Storm *storm, guint i)
{
  goffset offset = i % N_SLOTS * SIZE;

  if (i / 2 % 2)
    gaio_context_pread_async (desk->context, storm->fd, SIZE, offset, tasks->cancellables[i],
                              on_read, tasks);
  else
    gaio_context_pwrite_async (desk->context, storm->fd, tasks->bytes, offset,
                               tasks->cancellables[i], on_written, tasks);
}

static void
test_tasks_cancelled_by_threads (gconstpointer how)
{
  guint8 content[SIZE];

  memset (content, IN_FILE, SIZE);
  for (guint n = 0; n < MAX (storm_size () / 50000, 5); n++)
    {
      Desk desk;
      Storm storm;
      Tasks tasks = { .bytes = g_bytes_new (content, SIZE) };
      pthread_t threads[2];

      desk_begin (&desk, how);
      storm_begin (&storm, desk.context);
      for (guint i = 0; i < N_TASKS; i++)
        tasks.cancellables[i] = g_cancellable_new ();
      for (guint i = 0; i < 2; i++)
        threads[i] = spawn (cancel_all, &tasks);
      for (guint i = 0; i < N_TASKS; i++)
        begin_task (&desk, &tasks, &storm, i);
      while (tasks.ended < N_TASKS)
        g_main_context_iteration (desk.main_context, TRUE);
      for (guint i = 0; i < 2; i++)
        join (threads[i]);
      g_assert_cmpuint (tasks.cancelled, <=, N_TASKS / 2);
      for (guint i = 0; i < N_TASKS; i++)
        g_object_unref (tasks.cancellables[i]);
      g_bytes_unref (tasks.bytes);
      desk_end (&desk);
      storm_end (&storm);
    }
}

/* --- A GaioThread --- */

static void
test_thread (void)
{
  g_autoptr (GError) error = NULL;
  GaioThread *thread = gaio_thread_new ("files", &error);
  Storm storm;
  Worker workers[N_THREADS];

  g_assert_no_error (error);
  storm_begin (&storm, gaio_thread_get_context (thread));
  workers_start (workers, &storm, storm_size () / SLOWNESS / N_THREADS);
  workers_join (workers);
  wait_for (atomic_load (&storm.ended) == atomic_load (&storm.submitted));
  gaio_thread_stop (thread);
  g_object_unref (thread);
  storm_end (&storm);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_data_func ("/file-storm/cancel/alone", NULL, test_cancel_storm);
  g_test_add_data_func ("/file-storm/cancel/nested", "", test_cancel_storm);
  g_test_add_func ("/file-storm/move", test_moving_storm);
  g_test_add_data_func ("/file-storm/close/alone", NULL, test_close_storm);
  g_test_add_data_func ("/file-storm/close/nested", "", test_close_storm);
  add_ways ("/file-storm/drop", test_drop_storm);
  g_test_add_data_func ("/file-storm/tasks-cancelled-by-threads", GINT_TO_POINTER (NESTED),
                        test_tasks_cancelled_by_threads);
  g_test_add_func ("/file-storm/thread", test_thread);
  return g_test_run ();
}

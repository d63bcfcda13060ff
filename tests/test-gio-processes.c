/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes, file monitors and tasks over GLib alone and over main contexts that a context
 * serves. */
#include <glib/gstdio.h>
#include <signal.h>

#include "test-gio-sockets.h"

/* --- GSubprocess --- */

#define ALL_PIPES                                                                                  \
  (G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE)

/* Storms stay with the parent. */
static Party *
add_process (Run *run, const char *name, const char *script)
{
  const char *argv[] = { "sh", "-c", script, NULL };
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (ALL_PIPES);
  g_autoptr (GSubprocess) process = NULL;
  g_autoptr (GError) error = NULL;
  Party *self;

  g_subprocess_launcher_unsetenv (launcher, "LD_PRELOAD");
  process = g_subprocess_launcher_spawnv (launcher, argv, &error);
  g_assert_no_error (error);
  self = party_new (run, name, process);
  self->cancellable = g_cancellable_new ();
  return self;
}

static void
log_sum (Party *self, const char *what, GBytes *bytes)
{
  g_autofree char *sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, bytes);

  party_log (self, "%s: %" G_GSIZE_FORMAT " bytes %s", what, g_bytes_get_size (bytes), sum);
}

static void
process_exited (GObject *process, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_subprocess_wait_check_finish (G_SUBPROCESS (process), result, &error);
  party_log_result (self, "exited", error);
  party_log (self, "wait status %x", (guint) g_subprocess_get_status (G_SUBPROCESS (process)));
  party_end (self);
}

static void
wait_for_exit (Party *self)
{
  g_subprocess_wait_check_async (G_SUBPROCESS (self->owner), NULL, process_exited, self);
}

static void
process_communicated (GObject *process, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GBytes) out = NULL, err = NULL;
  g_autoptr (GError) error = NULL;

  g_subprocess_communicate_finish (G_SUBPROCESS (process), result, &out, &err, &error);
  party_log_result (self, "communicated", error);
  if (error == NULL)
    {
      log_sum (self, "stdout", out);
      log_sum (self, "stderr", err);
    }
  wait_for_exit (self);
}

static void
communicate (Party *self)
{
  g_subprocess_communicate_async (G_SUBPROCESS (self->owner), self->bytes, self->cancellable,
                                  process_communicated, self);
}

static GBytes *
much_new (gsize length)
{
  char *bytes = g_malloc (length);

  for (gsize i = 0; i < length; i++)
    bytes[i] = i * 7 + i / 251;
  return g_bytes_new_take (bytes, length);
}

static void
begin_communicate (Run *run)
{
  static const struct
  {
    const char *name;
    const char *script;
    gsize length;
  } processes[] = {
    { "echo", "cat", 100 },
    { "much", "cat; echo enough >&2", 500000 },
    { "fails", "echo out; echo err >&2; exit 3", 0 },
    { "killed", "echo out; kill -TERM $$", 0 },
    { "twice", "tee /dev/stderr", 200000 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (processes); i++)
    {
      Party *self = add_process (run, processes[i].name, processes[i].script);

      self->bytes = much_new (processes[i].length);
      party_call (self, communicate);
    }
}

static void
force_exit (Party *self)
{
  g_subprocess_force_exit (G_SUBPROCESS (self->owner));
}

static void
cancel (Party *self)
{
  g_cancellable_cancel (self->cancellable);
}

static void
cancel_and_force_exit (Party *self)
{
  cancel (self);
  party_later (self, G_PRIORITY_LOW, force_exit);
}

static void
begin_force_exit (Run *run)
{
  Party *own = add_process (run, "own turn", "exec sleep 1000");
  Party *outside = add_process (run, "outside", "exec sleep 1000");
  Party *cancelled = add_process (run, "cancelled", "exec sleep 1000");

  party_call (own, wait_for_exit);
  party_later (own, G_PRIORITY_LOW, force_exit);
  party_call (outside, wait_for_exit);
  party_outside (outside, force_exit);
  cancelled->bytes = much_new (0);
  party_call (cancelled, communicate);
  party_later (cancelled, G_PRIORITY_LOW, cancel_and_force_exit);
}

/* Its pipes are a connection as others are. */
static void
begin_pipes (Run *run)
{
  for (guint i = 0; i < 4; i++)
    {
      Party *self = add_process (run, "cat", "cat");
      GSubprocess *process = G_SUBPROCESS (self->owner);

      self->stream = g_simple_io_stream_new (g_subprocess_get_stdout_pipe (process),
                                             g_subprocess_get_stdin_pipe (process));
      party_call (self, client_say);
    }
}

/* --- GFileMonitor --- */

typedef struct
{
  char *directory;
  char *first;
  char *second;
} Files;

static void
files_free (gpointer data)
{
  Files *files = data;

  g_rmdir (files->directory);
  g_free (files->directory);
  g_free (files->first);
  g_free (files->second);
  g_free (files);
}

static void
create_file (const char *name)
{
  gint fd = open (name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

  g_assert_cmpint (fd, >=, 0);
  close (fd);
}

/* How often it has changed is a matter of speed. */
static void
file_changed (GFileMonitor *monitor,
              GFile *file,
              GFile *other,
              GFileMonitorEvent event,
              gpointer data)
{
  static const char *const events[] = { "changed",    "changes-done", "deleted",   "created",
                                        "attributes", "pre-unmount",  "unmounted", "moved",
                                        "renamed",    "moved-in",     "moved-out" };
  Party *self = data;
  Files *files = self->data;
  g_autofree char *name = g_file_get_basename (file);
  g_autofree char *other_name = other != NULL ? g_file_get_basename (other) : NULL;

  if (event == G_FILE_MONITOR_EVENT_CHANGED)
    return;
  party_log (self, "%s %s %s", events[event], name, other_name != NULL ? other_name : "");
  if (event == G_FILE_MONITOR_EVENT_CHANGES_DONE_HINT)
    g_assert_cmpint (g_rename (files->first, files->second), ==, 0);
  else if (event == G_FILE_MONITOR_EVENT_RENAMED)
    g_assert_cmpint (g_remove (files->second), ==, 0);
  else if (event == G_FILE_MONITOR_EVENT_DELETED)
    {
      g_file_monitor_cancel (monitor);
      party_end (self);
    }
}

static void
watch_files (Party *self)
{
  Files *files = self->data;
  g_autoptr (GFile) directory = g_file_new_for_path (files->directory);
  g_autoptr (GError) error = NULL;
  GFileMonitor *monitor =
      g_file_monitor_directory (directory, G_FILE_MONITOR_WATCH_MOVES, NULL, &error);

  party_log_result (self, "watched", error);
  g_signal_connect (monitor, "changed", G_CALLBACK (file_changed), self);
  g_object_set_data_full (self->owner, "monitor", monitor, g_object_unref);
  create_file (files->first);
}

static void
begin_files (Run *run)
{
  for (guint i = 0; i < 4; i++)
    {
      Party *self = party_new (run, "directory", NULL);
      Files *files = g_new0 (Files, 1);

      files->directory = g_dir_make_tmp ("gaio-files-XXXXXX", NULL);
      files->first = g_build_filename (files->directory, "first", NULL);
      files->second = g_build_filename (files->directory, "second", NULL);
      self->data = files;
      self->free_data = files_free;
      party_call (self, watch_files);
    }
}

/* --- GTask --- */

static void run_task (Party *self);

static void
task_done (GObject *object, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;
  gssize n = g_task_propagate_int (G_TASK (result), &error);

  party_log_result (self, "task", error);
  party_log (self, "%d", (int) n);
  if (++self->step == 6)
    party_end (self);
  else
    run_task (self);
}

static void
task_thread (GTask *task, gpointer object, gpointer data, GCancellable *cancellable)
{
  guint step = GPOINTER_TO_UINT (data);

  if (step % 3 == 2)
    g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "%u", step);
  else
    g_task_return_int (task, step * 10);
}

static void
run_task (Party *self)
{
  g_autoptr (GTask) task = g_task_new (self->owner, NULL, task_done, self);

  g_task_set_task_data (task, GUINT_TO_POINTER (self->step), NULL);
  g_task_run_in_thread (task, task_thread);
}

static void
begin_task_threads (Run *run)
{
  for (guint i = 0; i < 10; i++)
    party_call (party_new (run, "task", NULL), run_task);
}

static void
task_ended (GObject *object, GAsyncResult *result, gpointer data)
{
  Party *self = data;
  g_autoptr (GError) error = NULL;

  g_task_propagate_int (G_TASK (result), &error);
  party_log_result (self, "task", error);
  party_end (self);
}

/* Until it is cancelled. */
static void
waiting_thread (GTask *task, gpointer object, gpointer data, GCancellable *cancellable)
{
  GPollFD poll_fd;

  if (g_cancellable_make_pollfd (cancellable, &poll_fd))
    {
      while (!g_cancellable_is_cancelled (cancellable))
        g_poll (&poll_fd, 1, -1);
      g_cancellable_release_fd (cancellable);
    }
  g_task_return_int (task, 0);
}

static void
run_waiting_task (Party *self)
{
  g_autoptr (GTask) task = g_task_new (self->owner, self->cancellable, task_ended, self);

  g_task_set_return_on_cancel (task, self->step == 1);
  g_task_run_in_thread (task, waiting_thread);
}

static void
begin_task_cancel (Run *run)
{
  for (guint i = 0; i < 8; i++)
    {
      Party *self = party_new (run, i % 2 == 0 ? "own turn" : "outside", NULL);

      self->cancellable = g_cancellable_new ();
      self->step = i / 4;
      party_call (self, run_waiting_task);
      if (i % 2 == 0)
        party_later (self, G_PRIORITY_LOW, cancel);
      else
        party_outside (self, cancel);
    }
}

static void
task_in_order (GObject *object, GAsyncResult *result, gpointer data)
{
  Party *self = data;

  party_log (self, "priority %d", g_task_get_priority (G_TASK (result)));
  if (++self->step == 4)
    party_end (self);
}

static void
return_by_priority (Party *self)
{
  static const gint priorities[] = { 20, -5, 7, -100 };

  for (guint i = 0; i < G_N_ELEMENTS (priorities); i++)
    {
      g_autoptr (GTask) task = g_task_new (self->owner, NULL, task_in_order, self);

      g_task_set_priority (task, priorities[i]);
      g_task_return_int (task, i);
    }
  party_log (self, "returned");
}

static void
begin_task_order (Run *run)
{
  for (guint i = 0; i < 4; i++)
    {
      Party *self = party_new (run, "tasks", NULL);

      if (i % 2 == 0)
        party_call (self, return_by_priority);
      else
        party_later (self, G_PRIORITY_HIGH, return_by_priority);
    }
}

/* --- GCancellable --- */

static gboolean
cancellable_fired (GCancellable *cancellable, gpointer data)
{
  Party *self = data;

  party_log (self, "cancelled %d", g_cancellable_is_cancelled (cancellable));
  if (++self->step == 2)
    {
      party_end (self);
      return G_SOURCE_REMOVE;
    }
  g_cancellable_reset (cancellable);
  party_outside (self, cancel);
  return G_SOURCE_CONTINUE;
}

static void
watch_cancellable (Party *self)
{
  g_autoptr (GSource) source = g_cancellable_source_new (self->cancellable);

  g_source_set_callback (source, G_SOURCE_FUNC (cancellable_fired), self, NULL);
  g_source_attach (source, self->inner);
}

static gpointer
cancel_in_thread (gpointer data)
{
  g_cancellable_cancel (data);
  g_object_unref (data);
  return NULL;
}

static void
start_canceller (Party *self)
{
  g_thread_unref (g_thread_new ("canceller", cancel_in_thread, g_object_ref (self->cancellable)));
}

static void
begin_cancellable (Run *run)
{
  static const PartyFunc ways[] = { cancel, start_canceller };

  for (guint i = 0; i < 8; i++)
    {
      Party *self = party_new (run, "cancellable", NULL);

      self->cancellable = g_cancellable_new ();
      party_call (self, watch_cancellable);
      if (i < 4)
        party_later (self, G_PRIORITY_LOW, ways[i % 2]);
      else
        party_outside (self, ways[i % 2]);
    }
}

/* --- Timeouts --- */

static gboolean
tick (gpointer data)
{
  Party *self = data;

  party_log (self, "tick %u", ++self->step);
  if (self->step < 5)
    return G_SOURCE_CONTINUE;
  party_end (self);
  return G_SOURCE_REMOVE;
}

static void
start_ticking (Party *self)
{
  g_autoptr (GSource) source = g_timeout_source_new (self->run->parties->len);

  g_source_set_callback (source, tick, self, NULL);
  g_source_attach (source, self->inner);
}

static void
begin_timeouts (Run *run)
{
  for (guint i = 0; i < 10; i++)
    party_call (party_new (run, "timeout", NULL), start_ticking);
}

int
main (int argc, char **argv)
{
  static Scenario scenarios[] = {
    { "/gio-processes/communicate", begin_communicate, TRUE },
    { "/gio-processes/force-exit", begin_force_exit, TRUE },
    { "/gio-processes/pipes", begin_pipes, TRUE },
    { "/gio-processes/file-monitors", begin_files },
    { "/gio-processes/task-threads", begin_task_threads },
    { "/gio-processes/tasks-cancelled", begin_task_cancel },
    { "/gio-processes/tasks-by-priority", begin_task_order },
    { "/gio-processes/cancellables", begin_cancellable },
    { "/gio-processes/timeouts", begin_timeouts },
  };

  signal (SIGPIPE, SIG_IGN);
  g_test_init (&argc, &argv, NULL);
  return run_scenarios (scenarios, G_N_ELEMENTS (scenarios));
}

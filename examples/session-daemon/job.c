/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A child process that may run for so long. */
#include "job.h"

#include <signal.h>
#include <sys/wait.h>

#include <gaio.h>

struct _LogbookJob
{
  GPid pid;
  GaioHandler *end;
  GaioTimer *deadline;
  gboolean timed_out;
  LogbookJobFunc func;
  gpointer user_data;
};

/* Tells, and frees. */
static void
finish (LogbookJob *self, const char *result)
{
  gaio_clear_timer (&self->deadline);
  gaio_clear_handler (&self->end);
  self->func (self, result, self->user_data);
  g_free (self);
}

static void
on_end (GPid pid, gint wait_status, gpointer user_data)
{
  LogbookJob *self = user_data;
  g_autofree char *result = NULL;

  if (self->timed_out)
    result = g_strdup ("timed out");
  else if (WIFEXITED (wait_status))
    result = g_strdup_printf ("exited %d", WEXITSTATUS (wait_status));
  else
    result = g_strdup_printf ("killed by signal %d", WTERMSIG (wait_status));
  finish (self, result);
}

/* Its end is told when it has ended. */
static void
on_deadline (gpointer user_data)
{
  LogbookJob *self = user_data;

  self->timed_out = TRUE;
  kill (self->pid, SIGKILL);
}

LogbookJob *
logbook_job_start (char **argv,
                   gint seconds,
                   LogbookJobFunc func,
                   gpointer user_data,
                   GError **error)
{
  GaioContext *context = gaio_context_get_default ();
  LogbookJob *self = g_new0 (LogbookJob, 1);

  self->func = func;
  self->user_data = user_data;
  if (!g_spawn_async (NULL, argv, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                      NULL, NULL, &self->pid, error))
    {
      g_free (self);
      return NULL;
    }
  self->end = gaio_context_add_child (context, self->pid, on_end, self, NULL, error);
  if (self->end == NULL)
    {
      kill (self->pid, SIGKILL);
      waitpid (self->pid, NULL, 0);
      g_free (self);
      return NULL;
    }
  self->deadline = gaio_context_add_timer (context, on_deadline, self, NULL);
  gaio_timer_arm (self->deadline, seconds * (gint64) G_USEC_PER_SEC);
  return self;
}

void
logbook_job_stop (LogbookJob *self)
{
  kill (self->pid, SIGKILL);
  waitpid (self->pid, NULL, 0);
  finish (self, "stopped");
}

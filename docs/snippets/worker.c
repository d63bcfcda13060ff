/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

typedef struct
{
  GaioContext *home;
  guint64 sum;
  gboolean done;
} Job;

/* In the main thread. */
static void
job_finish (gpointer user_data)
{
  Job *job = user_data;

  job->done = TRUE;
}

/* In the thread. */
static gpointer
job_run (gpointer user_data)
{
  Job *job = user_data;

  for (guint i = 0; i <= 1000; i++)
    job->sum += i;
  gaio_context_defer (job->home, job_finish, job, NULL);
  return NULL;
}

int
main (void)
{
  Job job = { gaio_context_get_default (), 0, FALSE };
  GThread *thread = g_thread_new ("worker", job_run, &job);

  while (!job.done)
    g_main_context_iteration (NULL, TRUE);
  g_thread_join (thread);
  return job.sum == 500500 ? 0 : 1;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-thread.h"

#include <semaphore.h>

static struct
{
  GThread *thread;
  sem_t begin;
  sem_t end;
  void (*func) (Model *model);
  Model *model;
} other;

static gpointer
run_other (gpointer data)
{
  for (;;)
    {
      sem_wait (&other.begin);
      other.func (other.model);
      sem_post (&other.end);
    }
  return NULL;
}

gboolean
is_other (void)
{
  return g_thread_self () == other.thread;
}

void
do_in_other (Model *self, void (*func) (Model *model))
{
  if (other.thread == NULL)
    {
      sem_init (&other.begin, 0, 0);
      sem_init (&other.end, 0, 0);
      other.thread = g_thread_new ("other", run_other, NULL);
    }
  other.func = func;
  other.model = self;
  sem_post (&other.begin);
  sem_wait (&other.end);
}

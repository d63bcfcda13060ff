/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define N_ITEMS 1000

typedef struct
{
  int kick; /* an eventfd */
  atomic_int n_made;
  int n_used;
} Queue;

/* In the other thread. */
static gpointer
make (gpointer data)
{
  Queue *queue = data;

  for (int i = 0; i < N_ITEMS; i++)
    {
      atomic_fetch_add (&queue->n_made, 1);
      eventfd_write (queue->kick, 1);
    }
  return NULL;
}

/* Asked again and again: no system call. */
static gboolean
has_items (gpointer data)
{
  Queue *queue = data;

  return atomic_load (&queue->n_made) > queue->n_used;
}

static gboolean
use (gint fd, GIOCondition condition, gpointer data)
{
  Queue *queue = data;
  eventfd_t n;

  eventfd_read (fd, &n);
  while (has_items (queue))
    queue->n_used++;
  return G_SOURCE_CONTINUE;
}

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GaioHandler) handler = NULL;
  g_autoptr (GError) error = NULL;
  Queue queue = { .kick = eventfd (0, EFD_NONBLOCK) };
  GThread *thread;

  handler = gaio_context_add_fd (context, queue.kick, G_IO_IN, use, &queue, NULL, &error);
  if (handler == NULL)
    g_error ("%s", error->message);
  gaio_handler_set_poll_funcs (handler, has_items, NULL, NULL);
  gaio_context_set_poll_params (context, 50, 0, 0);
  thread = g_thread_new ("maker", make, &queue);
  while (queue.n_used < N_ITEMS)
    gaio_context_iterate (context, -1);
  g_thread_join (thread);
  gaio_context_close (context);
  close (queue.kick);
  return 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

typedef struct
{
  GaioContext *home;
  gboolean submitted;
  gboolean done;
} Request;

static void
request_complete (gpointer user_data)
{
  Request *request = user_data;

  request->done = TRUE;
}

/* In the thread. */
static void
request_submit (gpointer user_data)
{
  Request *request = user_data;

  request->submitted = TRUE;
  gaio_context_defer (request->home, request_complete, request, NULL);
}

int
main (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioThread) thread = gaio_thread_new ("iothread0", &error);
  g_autoptr (GaioContext) home = gaio_context_new ();
  Request request = { home, FALSE, FALSE };

  if (thread == NULL)
    g_error ("%s", error->message);
  gaio_context_defer (gaio_thread_get_context (thread), request_submit, &request, NULL);
  while (!request.done)
    gaio_context_iterate (home, -1);
  gaio_thread_stop (thread);
  gaio_context_close (home);
  return request.submitted ? 0 : 1;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <gaio.h>

typedef struct
{
  GMainLoop *loop;
  char *buffer;
} Request;

static void
on_read (gssize result, const GError *error, gpointer user_data)
{
  Request *request = user_data;

  g_print ("%s\n", error != NULL ? error->message : "it was too late to cancel it");
  g_free (request->buffer);
  g_main_loop_quit (request->loop);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  Request request = { loop, g_malloc (4096) };
  int fd = open ("/etc/passwd", O_RDONLY | O_CLOEXEC);
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioIOOp) op =
      gaio_context_submit_pread (gaio_context_get_default (), fd, request.buffer, 4096, 0, on_read,
                                 &request, &error);

  if (op == NULL)
    g_error ("%s", error->message);
  gaio_io_op_cancel (op);
  g_main_loop_run (loop);
  return 0;
}

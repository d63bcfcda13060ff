/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the programs have in common. */
#include "lines.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <glib-unix.h>

typedef struct
{
  LineFunc func;
  gpointer user_data;
  GString *text; /* the beginning of a line */
} Reader;

static void
reader_free (gpointer data)
{
  Reader *self = data;

  g_string_free (self->text, TRUE);
  g_free (self);
}

static gboolean
on_input (gint fd, GIOCondition condition, gpointer user_data)
{
  Reader *self = user_data;
  char buffer[4096], *end;
  gssize n = read (fd, buffer, sizeof buffer);

  if (n < 0 && errno == EINTR)
    return G_SOURCE_CONTINUE;
  g_string_append_len (self->text, buffer, MAX (n, 0));
  if (n <= 0 && self->text->len > 0)
    g_string_append_c (self->text, '\n');
  while ((end = strchr (self->text->str, '\n')) != NULL)
    {
      *end = '\0';
      self->func (self->text->str, self->user_data);
      g_string_erase (self->text, 0, end + 1 - self->text->str);
    }
  if (n > 0)
    return G_SOURCE_CONTINUE;
  self->func (NULL, self->user_data);
  return G_SOURCE_REMOVE;
}

/* Of stdin. */
void
read_lines (GaioContext *context, LineFunc func, gpointer user_data)
{
  Reader *self = g_new0 (Reader, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GaioHandler) handler = NULL;

  self->func = func;
  self->user_data = user_data;
  self->text = g_string_new (NULL);
  handler =
      gaio_context_add_fd (context, STDIN_FILENO, G_IO_IN, on_input, self, reader_free, &error);
  if (handler == NULL)
    g_error ("stdin: %s", error->message);
}

static gboolean
on_stop_signal (gpointer loop)
{
  g_main_loop_quit (loop);
  return G_SOURCE_CONTINUE;
}

/* It ends at SIGTERM and SIGINT. The program gets all the fds that the system gives: the soft limit
 * is usually 1024, for the sake of select(). */
GMainLoop *
create_main_loop (void)
{
  GMainLoop *loop = g_main_loop_new (NULL, FALSE);
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  signal (SIGPIPE, SIG_IGN);
  g_unix_signal_add (SIGTERM, on_stop_signal, loop);
  g_unix_signal_add (SIGINT, on_stop_signal, loop);
  return loop;
}

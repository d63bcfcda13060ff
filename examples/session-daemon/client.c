/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a client says and what it is told. A line is at most 4096 bytes of UTF-8 and ends with \n:
 *
 *   PUT id text   "OK id" when the entry is safe, or was before; "ERR id reason" if it is not
 *   WATCH         OK; from now on "ENTRY id text" for each new entry
 *   RUN name      "DONE name result" when that command of the configuration has ended
 *
 * Anything else is answered with "ERR reason" and the end of the connection. Who reads too slowly
 * is cut off. A client that shuts its sending side down gets its answers first. When the daemon
 * ends it says BYE: what is not acknowledged by then has to be sent again.
 */
#include "client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "watch.h"

#define MAX_LINE 4096
#define MAX_QUEUE (256 * 1024)

struct _LogbookClient
{
  LogbookServer *server;
  int fd; /* -1 when it has been closed */
  LogbookWatch watch;
  GIOCondition condition;
  GString *in;      /* the beginning of a line */
  GString *out;     /* what the socket has not taken yet */
  guint n_expected; /* answers */
  gboolean at_eof;  /* it sends nothing more */
  gboolean leaving; /* it is told nothing more; its watch closes it */
};

static gboolean on_ready (gint fd, GIOCondition condition, gpointer user_data);

/* Brings the watch in line with the state. Does not close: others may be going through the
 * clients. FALSE if it cannot be watched. */
static gboolean
settle (LogbookClient *self)
{
  GIOCondition condition = 0;

  if (self->at_eof && self->n_expected == 0 && self->out->len == 0)
    self->leaving = TRUE;
  if (self->leaving)
    shutdown (self->fd, SHUT_RDWR);
  /* The shutdown makes it readable. */
  if (self->leaving || !self->at_eof)
    condition |= G_IO_IN;
  if (self->out->len > 0)
    condition |= G_IO_OUT;
  if (condition == self->condition)
    return TRUE;
  self->condition = condition;
  return logbook_watch_set (&self->watch, "client", self->fd, condition, on_ready, self);
}

static void
send_line (LogbookClient *self, const char *line)
{
  gssize length = strlen (line), n_sent = 0;

  if (self->out->len == 0)
    n_sent = send (self->fd, line, length, MSG_NOSIGNAL);
  if (n_sent < length)
    g_string_append (self->out, line + MAX (n_sent, 0));
}

static void
drop (LogbookClient *self, const char *last_words)
{
  send_line (self, last_words);
  self->leaving = TRUE;
  settle (self);
}

void
logbook_client_tell (LogbookClient *self, const char *line)
{
  if (self->fd == -1 || self->leaving)
    return;
  if (self->out->len + strlen (line) > MAX_QUEUE)
    self->leaving = TRUE; /* it reads too slowly to be told */
  else
    send_line (self, line);
  settle (self);
}

/* The connection stays until logbook_client_answer() has been called as often. */
void
logbook_client_expect_answer (LogbookClient *self)
{
  self->n_expected++;
}

void
logbook_client_answer (LogbookClient *self, const char *line)
{
  self->n_expected--;
  logbook_client_tell (self, line);
}

/* Ends the first word, and returns what comes after it. */
static char *
cut_word (char *line)
{
  char *space = strchr (line, ' ');

  if (space == NULL)
    return line + strlen (line);
  *space = '\0';
  return space + 1;
}

static void
serve_line (LogbookClient *self, char *line, gsize length)
{
  char *argument, *text;

  if (!g_utf8_validate (line, length, NULL))
    {
      drop (self, "ERR this is not text\n");
      return;
    }
  argument = cut_word (line);
  if (strcmp (line, "RUN") == 0 && *argument != '\0')
    {
      logbook_server_run_for (self->server, self, argument);
      return;
    }
  text = cut_word (argument);
  if (strcmp (line, "PUT") == 0 && *argument != '\0')
    logbook_server_put (self->server, self, argument, text);
  else if (strcmp (line, "WATCH") == 0)
    logbook_server_add_watcher (self->server, self);
  else
    drop (self, "ERR there is no such command\n");
}

static void
serve_lines (LogbookClient *self)
{
  gsize start = 0;
  char *end;

  while (!self->leaving &&
         (end = memchr (self->in->str + start, '\n', self->in->len - start)) != NULL)
    {
      char *line = self->in->str + start;

      *end = '\0';
      start = end + 1 - self->in->str;
      if (end - line >= MAX_LINE)
        drop (self, "ERR the line is too long\n");
      else
        serve_line (self, line, end - line);
    }
  g_string_erase (self->in, 0, start);
  if (!self->leaving && self->in->len >= MAX_LINE)
    drop (self, "ERR the line is too long\n");
}

/* Reads once: what is left is reported again, after the others have had their turn. */
static void
receive (LogbookClient *self)
{
  char buffer[MAX_LINE];
  gssize n = recv (self->fd, buffer, sizeof buffer, 0);

  if (n > 0)
    {
      g_string_append_len (self->in, buffer, n);
      serve_lines (self);
    }
  else if (n == 0)
    self->at_eof = TRUE;
  else if (errno != EAGAIN && errno != EINTR)
    self->leaving = TRUE;
}

static void
flush (LogbookClient *self)
{
  gssize n = send (self->fd, self->out->str, self->out->len, MSG_NOSIGNAL);

  if (n >= 0)
    g_string_erase (self->out, 0, n);
  else if (errno != EAGAIN && errno != EINTR)
    self->leaving = TRUE;
  /* A GString never shrinks: else each client would keep the longest queue it ever had. */
  if (self->out->len == 0)
    {
      g_string_free (self->out, TRUE);
      self->out = g_string_new (NULL);
    }
}

static gboolean
on_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  LogbookClient *self = user_data;

  if (!self->leaving && (condition & G_IO_OUT) != 0)
    flush (self);
  if (!self->leaving && (condition & G_IO_IN) != 0)
    receive (self);
  else if ((condition & (G_IO_HUP | G_IO_ERR)) != 0)
    self->leaving = TRUE;
  if (!self->leaving)
    settle (self);
  if (!self->leaving)
    return G_SOURCE_CONTINUE;
  logbook_server_remove_client (self->server, self);
  return G_SOURCE_REMOVE;
}

/* Takes over @fd. Returns NULL if it cannot be watched. */
LogbookClient *
logbook_client_new (LogbookServer *server, int fd)
{
  LogbookClient *self = g_rc_box_new0 (LogbookClient);

  self->server = server;
  self->fd = fd;
  self->in = g_string_new (NULL);
  self->out = g_string_new (NULL);
  if (settle (self))
    return self;
  logbook_client_close (self);
  logbook_client_unref (self);
  return NULL;
}

LogbookClient *
logbook_client_ref (LogbookClient *self)
{
  return g_rc_box_acquire (self);
}

static void
clear (gpointer data)
{
  LogbookClient *self = data;

  g_string_free (self->in, TRUE);
  g_string_free (self->out, TRUE);
}

void
logbook_client_unref (LogbookClient *self)
{
  g_rc_box_release_full (self, clear);
}

void
logbook_client_close (LogbookClient *self)
{
  if (self->fd == -1)
    return;
  logbook_watch_clear (&self->watch);
  close (self->fd);
  self->fd = -1;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the programs that load the relay have in common. */

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <glib.h>

#define SPARE_FDS 64
#define MAX_OPENING 256

/* The first failure ends the run. */
static inline void G_GNUC_PRINTF (2, 3) client_fail (char **failure, const char *format, ...)
{
  va_list arguments;

  if (*failure != NULL)
    return;
  va_start (arguments, format);
  *failure = g_strdup_vprintf (format, arguments);
  va_end (arguments);
}

#define load_fail(load, ...) client_fail (&(load)->failure, __VA_ARGS__)

/* For a few bytes on a connection that has nothing else to send: its buffer takes them whole. */
static inline void
client_send (char **failure, int fd, const char *text)
{
  if (send (fd, text, strlen (text), MSG_DONTWAIT | MSG_NOSIGNAL) != (gssize) strlen (text))
    client_fail (failure, "cannot send: %s", g_strerror (errno));
}

#define load_send(load, fd, text) client_send (&(load)->failure, fd, text)

/* One of the figures in the answer to STATS. */
static inline gint64
stats_get (const char *line, const char *key)
{
  g_autofree char *pattern = g_strdup_printf (" %s=", key);
  const char *found = strstr (line, pattern);

  return found != NULL ? g_ascii_strtoll (found + strlen (pattern), NULL, 10) : 0;
}

/* Also answers how many connections there can be. */
static inline guint
raise_fd_limit (void)
{
  struct rlimit limit;

  getrlimit (RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
  return CLAMP (limit.rlim_cur, SPARE_FDS, G_MAXINT) - SPARE_FDS;
}

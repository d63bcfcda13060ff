/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watching an fd, with Gaio or with GLib: this is all the difference. */
#include "watch.h"

#include <glib-unix.h>

gboolean logbook_watch_with_glib;

static void
set_glib (LogbookWatch *self, int fd, GIOCondition condition, GaioFdFunc func, gpointer user_data)
{
  logbook_watch_clear (self);
  if (condition != 0)
    self->source_id = g_unix_fd_add (fd, condition, func, user_data);
}

static GaioHandler *
add (const char *name,
     int fd,
     GIOCondition condition,
     GaioFdFunc func,
     gpointer user_data,
     GError **error)
{
  GaioHandler *handler = gaio_context_add_fd (gaio_context_get_default (), fd, condition, func,
                                              user_data, NULL, error);

  if (handler != NULL)
    gaio_handler_set_name (handler, name);
  return handler;
}

/* FALSE if that cannot be watched, which is told on stderr. */
gboolean
logbook_watch_set (LogbookWatch *self,
                   const char *name,
                   int fd,
                   GIOCondition condition,
                   GaioFdFunc func,
                   gpointer user_data)
{
  g_autoptr (GError) error = NULL;

  if (logbook_watch_with_glib)
    {
      set_glib (self, fd, condition, func, user_data);
      return TRUE;
    }
  if (self->handler != NULL)
    gaio_handler_set_condition (self->handler, condition, &error);
  else
    self->handler = add (name, fd, condition, func, user_data, &error);
  if (error != NULL)
    g_printerr ("gaio-logbook: %s\n", error->message);
  return error == NULL;
}

void
logbook_watch_clear (LogbookWatch *self)
{
  g_clear_handle_id (&self->source_id, g_source_remove);
  gaio_clear_handler (&self->handler);
}

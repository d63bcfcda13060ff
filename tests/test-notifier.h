/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-support.h"
#include "test-stand-in.h"

/* What happens once, just before or after the next one. */
static void (*before_read) (GaioNotifier *);
static void (*after_read) (GaioNotifier *);
static void (*before_write) (GaioNotifier *);
static void (*before_epoll_ctl) (GaioNotifier *);
static GaioNotifier *hooked;
static guint n_interrupted; /* how many more fail with EINTR */

static inline void
run_hook (void (**hook) (GaioNotifier *))
{
  void (*func) (GaioNotifier *) = g_steal_pointer (hook);

  if (func != NULL)
    func (hooked);
}

static inline gboolean
is_interrupted (void)
{
  if (n_interrupted == 0)
    return FALSE;
  n_interrupted--;
  errno = EINTR;
  return TRUE;
}

ssize_t
read (int fd, void *buffer, size_t size)
{
  ssize_t length;

  if (hooked == NULL || fd != gaio_notifier_get_fd (hooked))
    return NEXT (read) (fd, buffer, size);
  if (is_interrupted ())
    return -1;
  run_hook (&before_read);
  length = NEXT (read) (fd, buffer, size);
  run_hook (&after_read);
  return length;
}

ssize_t
write (int fd, const void *buffer, size_t size)
{
  if (hooked == NULL || fd != gaio_notifier_get_fd (hooked))
    return NEXT (write) (fd, buffer, size);
  if (is_interrupted ())
    return -1;
  run_hook (&before_write);
  return NEXT (write) (fd, buffer, size);
}

int
epoll_ctl (int set, int op, int fd, struct epoll_event *event)
{
  if (hooked != NULL && fd == gaio_notifier_get_fd (hooked))
    run_hook (&before_epoll_ctl);
  return NEXT (epoll_ctl) (set, op, fd, event);
}

static inline GaioNotifier *
notifier_new (void)
{
  g_autoptr (GError) error = NULL;
  GaioNotifier *notifier = gaio_notifier_new (&error);

  g_assert_no_error (error);
  g_assert_nonnull (notifier);
  return notifier;
}

static inline GaioHandler *
add_notifier (GaioContext *context,
              GaioNotifier *notifier,
              GSourceOnceFunc func,
              gpointer data,
              GDestroyNotify notify)
{
  g_autoptr (GError) error = NULL;
  GaioHandler *handler = gaio_context_add_notifier (context, notifier, func, data, notify, &error);

  g_assert_no_error (error);
  g_assert_nonnull (handler);
  return handler;
}

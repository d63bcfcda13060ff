/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

static inline gboolean
is_epoll_fd (gint fd)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autofree char *file = g_file_read_link (path, NULL);

  return g_strcmp0 (file, "anon_inode:[eventpoll]") == 0;
}

/* Returns the number of an epoll set, or -1 if there is none. */
static inline gint
find_epoll_fd (void)
{
  for (gint fd = 3; fd < 64; fd++)
    if (is_epoll_fd (fd))
      return fd;
  return -1;
}

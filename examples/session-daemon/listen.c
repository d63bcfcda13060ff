/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket to listen on: the one that the service manager has made, or one of our own. */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <gio/gio.h>

/* Where sd_listen_fds(3) has the first fd. */
#define PASSED_FD 3

static gboolean
set_error (GError **error, const char *path, int errsv, const char *what)
{
  g_set_error (error, G_IO_ERROR, g_io_error_from_errno (errsv), "%s: %s", path, what);
  return FALSE;
}

/* How many fds were passed to this process. Our children shall not think that it is to them. */
static guint64
take_n_passed (void)
{
  guint64 pid = 0, n = 0;
  const char *pid_text = g_getenv ("LISTEN_PID");
  const char *n_text = g_getenv ("LISTEN_FDS");

  if (pid_text != NULL && n_text != NULL)
    {
      g_ascii_string_to_unsigned (pid_text, 10, 0, G_MAXINT, &pid, NULL);
      g_ascii_string_to_unsigned (n_text, 10, 0, G_MAXINT, &n, NULL);
    }
  g_unsetenv ("LISTEN_PID");
  g_unsetenv ("LISTEN_FDS");
  g_unsetenv ("LISTEN_FDNAMES");
  return pid == (guint64) getpid () ? n : 0;
}

static gboolean
has_option (int fd, int option, int wanted)
{
  int value = -1;

  return getsockopt (fd, SOL_SOCKET, option, &value, &(socklen_t){ sizeof value }) == 0 &&
         value == wanted;
}

static int
check_passed (guint64 n, GError **error)
{
  if (n > 1 || !has_option (PASSED_FD, SO_DOMAIN, AF_UNIX) ||
      !has_option (PASSED_FD, SO_TYPE, SOCK_STREAM) || !has_option (PASSED_FD, SO_ACCEPTCONN, TRUE))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                   "LISTEN_FDS: one listening Unix stream socket is expected");
      return -1;
    }
  fcntl (PASSED_FD, F_SETFD, FD_CLOEXEC);
  fcntl (PASSED_FD, F_SETFL, O_NONBLOCK);
  return PASSED_FD;
}

/* Takes the socket of a server that has gone out of the way, and nothing else. */
static gboolean
make_way (const struct sockaddr_un *address, GError **error)
{
  struct stat status;
  int fd, errsv;

  if (lstat (address->sun_path, &status) == -1)
    return set_error (error, address->sun_path, errno, g_strerror (errno));
  if (!S_ISSOCK (status.st_mode))
    return set_error (error, address->sun_path, EEXIST, "it is there, and not a socket");
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  errsv = connect (fd, (const struct sockaddr *) address, sizeof *address) == -1 ? errno : 0;
  if (fd != -1)
    close (fd);
  if (errsv != ECONNREFUSED)
    return set_error (error, address->sun_path, EADDRINUSE, "another server listens there");
  unlink (address->sun_path);
  return TRUE;
}

static gboolean
bind_to (int fd, const struct sockaddr_un *address, GError **error)
{
  const struct sockaddr *name = (const struct sockaddr *) address;

  /* Before the socket can be seen. */
  fchmod (fd, 0600);
  if (bind (fd, name, sizeof *address) == 0)
    return TRUE;
  if (errno == EADDRINUSE && !make_way (address, error))
    return FALSE;
  if (bind (fd, name, sizeof *address) == 0)
    return TRUE;
  return set_error (error, address->sun_path, errno, g_strerror (errno));
}

static int
listen_at (const char *path, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd;

  if (strlen (path) >= sizeof address.sun_path)
    {
      set_error (error, path, ENAMETOOLONG, "too long for the path of a socket");
      return -1;
    }
  strcpy (address.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1)
    {
      set_error (error, path, errno, g_strerror (errno));
      return -1;
    }
  if (!bind_to (fd, &address, error))
    {
      close (fd);
      return -1;
    }
  listen (fd, SOMAXCONN);
  return fd;
}

/* @made: whether the socket has to be unlinked in the end. Returns -1 on error. */
int
logbook_listen (const char *path, gboolean *made, GError **error)
{
  guint64 n_passed = take_n_passed ();
  int fd = n_passed > 0 ? check_passed (n_passed, error) : listen_at (path, error);

  *made = fd != -1 && n_passed == 0;
  return fd;
}

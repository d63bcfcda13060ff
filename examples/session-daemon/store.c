/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log: a file of lines "id text", which only grows. What has been added since the last commit
 * is written and made safe in one go, whoever it is from. An id is there once: a client that does
 * not know whether its entry is safe just sends it again. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <gio/gio.h>
#include <glib/gstdio.h>

struct _LogbookStore
{
  char *path;
  int fd;
  gboolean sync;
  goffset size;        /* of what is safe */
  GHashTable *ids;     /* a set: safe */
  GHashTable *pending; /* a set */
  GString *batch;      /* the lines of @pending */
};

static void
set_error (GError **error, LogbookStore *self, const char *what)
{
  int errsv = errno;

  g_set_error (error, G_IO_ERROR, g_io_error_from_errno (errsv), "%s: cannot %s: %s", self->path,
               what, g_strerror (errsv));
}

static GHashTable *
set_new (void)
{
  return g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
}

/* The name of a new file has to be as safe as what is in it. */
static void
sync_folder (const char *folder)
{
  int fd = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (fd == -1)
    return;
  fsync (fd);
  close (fd);
}

static gboolean
open_file (LogbookStore *self, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (self->path);

  g_mkdir_with_parents (folder, 0700);
  self->fd = open (self->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (self->fd == -1)
    {
      set_error (error, self, "open it");
      return FALSE;
    }
  if (flock (self->fd, LOCK_EX | LOCK_NB) == -1)
    {
      if (errno == EWOULDBLOCK)
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "%s: another process uses it", self->path);
      else
        set_error (error, self, "lock it");
      return FALSE;
    }
  if (self->sync)
    sync_folder (folder);
  return TRUE;
}

/* FALSE if that is no line of ours: then the file is not either. */
static gboolean
load_line (LogbookStore *self, const char *line, gsize length)
{
  const char *space = memchr (line, ' ', length);

  if (space == NULL || space == line)
    return FALSE;
  g_hash_table_add (self->ids, g_strndup (line, space - line));
  return TRUE;
}

static gboolean
load_lines (LogbookStore *self, const char *data, gsize length, GError **error)
{
  const char *end;
  guint n = 1;

  for (const char *line = data; (end = memchr (line, '\n', data + length - line)) != NULL; n++)
    {
      if (!load_line (self, line, end - line))
        {
          g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                       "%s: line %u is not an entry of a logbook", self->path, n);
          return FALSE;
        }
      line = end + 1;
      self->size = line - data;
    }
  return TRUE;
}

/* A line without an end was being written when the system or the daemon went down: nobody has been
 * told that it is safe. */
static gboolean
cut_off (LogbookStore *self, gsize length, GError **error)
{
  if ((gsize) self->size == length)
    return TRUE;
  g_printerr ("gaio-logbook: %s: %" G_GSIZE_FORMAT " bytes of an unfinished entry are cut off\n",
              self->path, length - (gsize) self->size);
  if (ftruncate (self->fd, self->size) == 0)
    return TRUE;
  set_error (error, self, "cut it off");
  return FALSE;
}

static gboolean
load (LogbookStore *self, GError **error)
{
  g_autoptr (GMappedFile) file = g_mapped_file_new_from_fd (self->fd, FALSE, error);
  gsize length;

  if (file == NULL)
    return FALSE;
  length = g_mapped_file_get_length (file);
  /* There is nothing to map in an empty file. */
  if (length == 0)
    return TRUE;
  return load_lines (self, g_mapped_file_get_contents (file), length, error) &&
         cut_off (self, length, error);
}

LogbookStore *
logbook_store_open (const char *path, gboolean sync, GError **error)
{
  g_autoptr (LogbookStore) self = g_new0 (LogbookStore, 1);

  self->path = g_strdup (path);
  self->fd = -1;
  self->sync = sync;
  self->ids = set_new ();
  self->pending = set_new ();
  self->batch = g_string_new (NULL);
  if (!open_file (self, error) || !load (self, error))
    return NULL;
  return g_steal_pointer (&self);
}

void
logbook_store_close (LogbookStore *self)
{
  if (self->fd != -1)
    close (self->fd);
  g_hash_table_unref (self->ids);
  g_hash_table_unref (self->pending);
  g_string_free (self->batch, TRUE);
  g_free (self->path);
  g_free (self);
}

LogbookState
logbook_store_add (LogbookStore *self, const char *id, const char *text)
{
  if (g_hash_table_contains (self->ids, id))
    return LOGBOOK_SAFE;
  if (!g_hash_table_add (self->pending, g_strdup (id)))
    return LOGBOOK_PENDING;
  g_string_append (self->batch, id);
  g_string_append_c (self->batch, ' ');
  g_string_append (self->batch, text);
  g_string_append_c (self->batch, '\n');
  return LOGBOOK_NEW;
}

static gboolean
write_all (int fd, const char *data, gsize length)
{
  while (length > 0)
    {
      gssize n = TEMP_FAILURE_RETRY (write (fd, data, length));

      if (n < 0)
        return FALSE;
      data += n;
      length -= n;
    }
  return TRUE;
}

static void
keep_ids (LogbookStore *self)
{
  GHashTableIter iter;
  gpointer id;

  g_hash_table_iter_init (&iter, self->pending);
  while (g_hash_table_iter_next (&iter, &id, NULL))
    {
      g_hash_table_iter_steal (&iter);
      g_hash_table_add (self->ids, id);
    }
}

/* Makes what has been added safe. If that fails, it is as if it had never been added. */
gboolean
logbook_store_commit (LogbookStore *self, GError **error)
{
  gboolean done = write_all (self->fd, self->batch->str, self->batch->len) &&
                  (!self->sync || fdatasync (self->fd) == 0);

  if (done)
    {
      self->size += self->batch->len;
      keep_ids (self);
    }
  else
    {
      set_error (error, self, "write to it");
      if (ftruncate (self->fd, self->size) == -1)
        g_printerr ("gaio-logbook: %s: %s\n", self->path, g_strerror (errno));
      g_hash_table_remove_all (self->pending);
    }
  g_string_truncate (self->batch, 0);
  return done;
}

guint64
logbook_store_count (LogbookStore *self)
{
  return g_hash_table_size (self->ids);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is connected, who waits for what, and what runs. */
#include "server.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gaio.h>

#include "client.h"
#include "job.h"
#include "listen.h"
#include "store.h"
#include "watch.h"

#define ACCEPTS_PER_WAKEUP 256

struct _LogbookServer
{
  GObject parent_instance;

  const LogbookConfig *config;
  LogbookStore *store;
  int fd;
  gboolean made_socket;
  LogbookWatch watch;
  gboolean paused;        /* no fd is left for another client */
  GHashTable *clients;    /* a set */
  GHashTable *watchers;   /* a set: those of them that are told of new entries */
  GPtrArray *puts;        /* of Put: not safe yet */
  GaioBottomHalf *commit; /* once for all that came in one round */
  GHashTable *runs;       /* a set of Run */
};

enum
{
  CHANGED,       /* the number of clients or of entries */
  COMMAND_ENDED, /* name, result */
  N_SIGNALS
};

static guint signals[N_SIGNALS];

G_DEFINE_FINAL_TYPE (LogbookServer, logbook_server, G_TYPE_OBJECT)

/* Who waits until an entry is safe. */
typedef struct
{
  LogbookClient *client;
  char *id;
  char *text; /* NULL if it is not the first one with this id */
} Put;

typedef struct
{
  LogbookServer *server;
  char *name;
  LogbookJob *job;
  LogbookRunFunc func;
  gpointer user_data;
} Run;

static void
put_free (gpointer data)
{
  Put *put = data;

  logbook_client_unref (put->client);
  g_free (put->id);
  g_free (put->text);
  g_free (put);
}

static void
close_client (gpointer client)
{
  logbook_client_close (client);
  logbook_client_unref (client);
}

/* Entries */

static void
tell_watchers (LogbookServer *self, const Put *put)
{
  g_autofree char *line = g_strdup_printf ("ENTRY %s %s\n", put->id, put->text);
  GHashTableIter iter;
  gpointer watcher;

  g_hash_table_iter_init (&iter, self->watchers);
  while (g_hash_table_iter_next (&iter, &watcher, NULL))
    logbook_client_tell (watcher, line);
}

static void
answer_put (LogbookServer *self, const Put *put, const GError *error)
{
  g_autofree char *line = error == NULL ? g_strdup_printf ("OK %s\n", put->id)
                                        : g_strdup_printf ("ERR %s %s\n", put->id, error->message);

  logbook_client_answer (put->client, line);
  if (error == NULL && put->text != NULL && g_hash_table_size (self->watchers) > 0)
    tell_watchers (self, put);
}

static void
on_commit (gpointer user_data)
{
  LogbookServer *self = user_data;
  g_autoptr (GPtrArray) puts = g_steal_pointer (&self->puts);
  g_autoptr (GError) error = NULL;

  self->puts = g_ptr_array_new_with_free_func (put_free);
  if (!logbook_store_commit (self->store, &error))
    g_printerr ("gaio-logbook: %s\n", error->message);
  for (guint i = 0; i < puts->len; i++)
    answer_put (self, puts->pdata[i], error);
  g_signal_emit (self, signals[CHANGED], 0);
}

void
logbook_server_put (LogbookServer *self, LogbookClient *client, const char *id, const char *text)
{
  LogbookState state = logbook_store_add (self->store, id, text);
  Put *put = g_new0 (Put, 1);

  put->client = logbook_client_ref (client);
  put->id = g_strdup (id);
  put->text = state == LOGBOOK_NEW ? g_strdup (text) : NULL;
  logbook_client_expect_answer (client);
  if (state == LOGBOOK_SAFE)
    {
      answer_put (self, put, NULL);
      put_free (put);
      return;
    }
  g_ptr_array_add (self->puts, put);
  gaio_bottom_half_schedule (self->commit);
}

void
logbook_server_add_watcher (LogbookServer *self, LogbookClient *client)
{
  g_hash_table_add (self->watchers, client);
  logbook_client_tell (client, "OK\n");
}

/* Commands */

static void
on_job_end (LogbookJob *job, const char *result, gpointer user_data)
{
  Run *run = user_data;

  g_signal_emit (run->server, signals[COMMAND_ENDED], 0, run->name, result);
  run->func (run->name, result, run->user_data);
  g_hash_table_remove (run->server->runs, run);
  g_free (run->name);
  g_free (run);
}

/* @func is called once, unless this fails. */
gboolean
logbook_server_run (LogbookServer *self,
                    const char *name,
                    LogbookRunFunc func,
                    gpointer user_data,
                    GError **error)
{
  char **argv = g_hash_table_lookup (self->config->commands, name);
  Run *run;

  if (argv == NULL)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "There is no command “%s”", name);
      return FALSE;
    }
  run = g_new0 (Run, 1);
  run->job = logbook_job_start (argv, self->config->command_seconds, on_job_end, run, error);
  if (run->job == NULL)
    {
      g_free (run);
      return FALSE;
    }
  run->server = self;
  run->name = g_strdup (name);
  run->func = func;
  run->user_data = user_data;
  g_hash_table_add (self->runs, run);
  return TRUE;
}

static void
answer_run (const char *name, const char *result, gpointer client)
{
  g_autofree char *line = g_strdup_printf ("DONE %s %s\n", name, result);

  logbook_client_answer (client, line);
  logbook_client_unref (client);
}

void
logbook_server_run_for (LogbookServer *self, LogbookClient *client, const char *name)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *line = NULL;

  logbook_client_ref (client);
  logbook_client_expect_answer (client);
  if (logbook_server_run (self, name, answer_run, client, &error))
    return;
  line = g_strdup_printf ("ERR %s %s\n", name, error->message);
  logbook_client_answer (client, line);
  logbook_client_unref (client);
}

/* Connections */

static gboolean on_listener_ready (gint fd, GIOCondition condition, gpointer user_data);

static gboolean
set_accepting (LogbookServer *self, gboolean accepting)
{
  self->paused = !accepting;
  return logbook_watch_set (&self->watch, "listener", self->fd, accepting ? G_IO_IN : 0,
                            on_listener_ready, self);
}

static void
add_client (LogbookServer *self, int fd)
{
  LogbookClient *client = logbook_client_new (self, fd);

  if (client == NULL)
    return;
  g_hash_table_add (self->clients, client);
  g_signal_emit (self, signals[CHANGED], 0);
}

void
logbook_server_remove_client (LogbookServer *self, LogbookClient *client)
{
  g_hash_table_remove (self->watchers, client);
  g_hash_table_remove (self->clients, client);
  if (self->paused)
    set_accepting (self, TRUE);
  g_signal_emit (self, signals[CHANGED], 0);
}

static gboolean
on_listener_ready (gint fd, GIOCondition condition, gpointer user_data)
{
  LogbookServer *self = user_data;

  for (guint i = 0; i < ACCEPTS_PER_WAKEUP; i++)
    {
      int client_fd = accept4 (fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

      if (client_fd >= 0)
        add_client (self, client_fd);
      else if (errno == EAGAIN)
        break;
      else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        {
          /* It stays in the backlog and keeps the listener readable: look away until one goes. */
          set_accepting (self, FALSE);
          break;
        }
    }
  return G_SOURCE_CONTINUE;
}

/* Beginning and end */

LogbookServer *
logbook_server_new (const LogbookConfig *config, GError **error)
{
  g_autoptr (LogbookServer) self = g_object_new (LOGBOOK_TYPE_SERVER, NULL);

  self->config = config;
  self->store = logbook_store_open (config->log_path, config->sync, error);
  if (self->store == NULL)
    return NULL;
  self->fd = logbook_listen (config->socket_path, &self->made_socket, error);
  if (self->fd == -1)
    return NULL;
  set_accepting (self, TRUE);
  return g_steal_pointer (&self);
}

static void
stop_runs (LogbookServer *self)
{
  GHashTableIter iter;
  gpointer run;

  /* Each takes itself out. */
  while (g_hash_table_size (self->runs) > 0)
    {
      g_hash_table_iter_init (&iter, self->runs);
      g_hash_table_iter_next (&iter, &run, NULL);
      logbook_job_stop (((Run *) run)->job);
    }
}

static void
say_goodbye (LogbookServer *self)
{
  GHashTableIter iter;
  gpointer client;

  g_hash_table_iter_init (&iter, self->clients);
  while (g_hash_table_iter_next (&iter, &client, NULL))
    logbook_client_tell (client, "BYE\n");
  g_hash_table_remove_all (self->watchers);
  g_hash_table_remove_all (self->clients);
}

/* What has been acknowledged is safe; what has not has to be sent again. Connections that have not
 * been accepted stay with the socket if the service manager has it. */
void
logbook_server_stop (LogbookServer *self)
{
  if (self->fd == -1)
    return;
  logbook_watch_clear (&self->watch);
  close (self->fd);
  self->fd = -1;
  if (self->made_socket)
    unlink (self->config->socket_path);
  stop_runs (self);
  say_goodbye (self);
}

guint
logbook_server_count_clients (LogbookServer *self)
{
  return g_hash_table_size (self->clients);
}

guint64
logbook_server_count_entries (LogbookServer *self)
{
  return logbook_store_count (self->store);
}

static void
logbook_server_finalize (GObject *object)
{
  LogbookServer *self = LOGBOOK_SERVER (object);

  logbook_server_stop (self);
  gaio_clear_bottom_half (&self->commit);
  g_hash_table_unref (self->clients);
  g_hash_table_unref (self->watchers);
  g_hash_table_unref (self->runs);
  g_ptr_array_unref (self->puts);
  g_clear_pointer (&self->store, logbook_store_close);
  G_OBJECT_CLASS (logbook_server_parent_class)->finalize (object);
}

static void
logbook_server_class_init (LogbookServerClass *klass)
{
  GType type = G_TYPE_FROM_CLASS (klass);

  G_OBJECT_CLASS (klass)->finalize = logbook_server_finalize;
  signals[CHANGED] =
      g_signal_new ("changed", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
  signals[COMMAND_ENDED] = g_signal_new ("command-ended", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                                         NULL, G_TYPE_NONE, 2, G_TYPE_STRING, G_TYPE_STRING);
}

static void
logbook_server_init (LogbookServer *self)
{
  self->fd = -1;
  self->clients = g_hash_table_new_full (NULL, NULL, close_client, NULL);
  self->watchers = g_hash_table_new (NULL, NULL);
  self->runs = g_hash_table_new (NULL, NULL);
  self->puts = g_ptr_array_new_with_free_func (put_free);
  self->commit = gaio_context_add_bottom_half (gaio_context_get_default (), on_commit, self, NULL);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gaio-top: shows what the Gaio loops of all processes on the session bus are doing. See
 * gaio-top.1. */
#include "top-bus.h"
#include "top-figures.h"
#include "top-print.h"
#include "top-screen.h"

#include <errno.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#define MIN_INTERVAL 0.001
#define MAX_INTERVAL 86400.0
#define NOBODY "no program exports the statistics of its loop"

typedef struct
{
  gboolean once;
  gboolean json;
  gboolean version;
  double interval;
  int slowest;
  char **words;
  GArray *pids; /* of guint64; empty means all */
} Options;

typedef struct
{
  Options options;
  GMainLoop *loop;
  TopBus *bus;
  GaioTimer *timer;
  gboolean on_screen;
  gint64 begun_us; /* the round */
  guint n_rounds;
  gboolean shown;     /* this round */
  gboolean told;      /* that there is nobody */
  GString *last_text; /* for when the window changes */
  int status;
} Top;

/* Options */

static gboolean
parse_pids (Options *options, GError **error)
{
  for (guint i = 0; options->words != NULL && options->words[i] != NULL; i++)
    {
      guint64 pid;

      if (!g_ascii_string_to_unsigned (options->words[i], 10, 1, G_MAXUINT32, &pid, NULL))
        {
          g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "“%s” is not a PID",
                       options->words[i]);
          return FALSE;
        }
      g_array_append_val (options->pids, pid);
    }
  return TRUE;
}

static gboolean
check_options (Options *options, GError **error)
{
  if (!(options->interval >= MIN_INTERVAL && options->interval <= MAX_INTERVAL))
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                 "--interval must be from %g to %g seconds", MIN_INTERVAL, MAX_INTERVAL);
  else if (options->slowest < 0)
    g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--slowest must be 0 or more");
  else
    return parse_pids (options, error);
  return FALSE;
}

static gboolean
parse_options (Options *options, int *argc, char ***argv, GError **error)
{
  const GOptionEntry entries[] = {
    { "once", 0, 0, G_OPTION_ARG_NONE, &options->once, "Print one table and exit", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &options->json, "Print each sample as a line of JSON",
      NULL },
    { "interval", 0, 0, G_OPTION_ARG_DOUBLE, &options->interval,
      "Time from one sample to the next (1)", "SECONDS" },
    { "slowest", 0, 0, G_OPTION_ARG_INT, &options->slowest,
      "How many callbacks to show for each loop (3)", "N" },
    { "version", 0, 0, G_OPTION_ARG_NONE, &options->version, "Print the version and exit", NULL },
    { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &options->words, NULL, "[PID…]" },
    { NULL },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);

  g_option_context_set_summary (
      context, "Shows the statistics of the Gaio loops of programs on the session bus.");
  g_option_context_add_main_entries (context, entries, NULL);
  return g_option_context_parse (context, argc, argv, error) && check_options (options, error);
}

static void
clear_options (Options *options)
{
  g_strfreev (options->words);
  g_array_unref (options->pids);
}

/* Showing */

static void
stop (Top *self, int status)
{
  self->status = status;
  g_main_loop_quit (self->loop);
}

static void
show (Top *self)
{
  GString *text = self->last_text;

  if (self->on_screen ? top_screen_draw (text->str) : top_write (text->str, text->len))
    return;
  /* The reader may have seen enough: that is not an error. */
  if (errno == EPIPE)
    {
      stop (self, 0);
      return;
    }
  g_printerr ("gaio-top: cannot write: %s\n", g_strerror (errno));
  stop (self, 1);
}

static gboolean
is_wanted (const Top *self, const TopLoop *loop)
{
  const GArray *pids = self->options.pids;
  guint64 pid;

  if (pids->len == 0)
    return TRUE;
  if (!top_loop_get_figure (loop, TOP_FIGURE_PID, &pid))
    return FALSE;
  for (guint i = 0; i < pids->len; i++)
    if (g_array_index (pids, guint64, i) == pid)
      return TRUE;
  return FALSE;
}

static GPtrArray *
list_wanted_loops (Top *self)
{
  GPtrArray *loops = top_bus_list_loops (self->bus);

  for (guint i = loops->len; i > 0; i--)
    if (!is_wanted (self, loops->pdata[i - 1]))
      g_ptr_array_remove_index (loops, i - 1);
  return loops;
}

/* On a terminal, this message is part of the picture; elsewhere, printing it once is enough. */
static void
tell_of_nobody (Top *self, gboolean nobody)
{
  if (nobody && self->on_screen)
    g_string_append (self->last_text, NOBODY "\n");
  else if (nobody && !self->told)
    g_printerr ("gaio-top: " NOBODY "\n");
  self->told = nobody;
}

static void
show_round (Top *self)
{
  g_autoptr (GPtrArray) loops = list_wanted_loops (self);

  g_string_truncate (self->last_text, 0);
  if (self->options.json)
    top_print_json (self->last_text, loops, g_get_real_time ());
  else
    top_print_table (self->last_text, loops);
  tell_of_nobody (self, loops->len == 0);
  self->shown = TRUE;
  show (self);
}

/* Rounds. A round is over when everybody has answered. It is shown then, or when the next one
 * begins. The first round is always waited for, so that we do not say too soon that nobody exports
 * anything. With --once there are two rounds, and only the second is shown. */

static void
plan_next_round (Top *self)
{
  gaio_timer_arm_at (self->timer, self->begun_us + self->options.interval * G_USEC_PER_SEC);
}

static void
begin_round (Top *self)
{
  self->begun_us = g_get_monotonic_time ();
  self->n_rounds++;
  self->shown = FALSE;
  if (!self->options.once && self->n_rounds > 1)
    plan_next_round (self);
  top_bus_begin_round (self->bus);
}

static void
on_timer (gpointer user_data)
{
  Top *self = user_data;

  if (!self->options.once && !self->shown)
    show_round (self);
  begin_round (self);
}

static void
on_round_over (gpointer user_data)
{
  Top *self = user_data;

  if (self->n_rounds == 1)
    plan_next_round (self);
  if (!self->options.once || self->n_rounds == 2)
    show_round (self);
  if (self->options.once && self->n_rounds == 2)
    g_main_loop_quit (self->loop);
}

/* The terminal */

static gboolean
on_key (gint fd, GIOCondition condition, gpointer user_data)
{
  Top *self = user_data;
  char keys[64];
  gssize n = read (fd, keys, sizeof keys);

  if (n > 0 && memchr (keys, 'q', n) != NULL)
    g_main_loop_quit (self->loop);
  return n > 0 ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void
on_screen_changed (gpointer user_data)
{
  show (user_data);
}

static gboolean
run_on_screen (Top *self, GError **error)
{
  GaioContext *context = gaio_context_get_default ();
  g_autoptr (GaioNotifier) changed = gaio_notifier_new (error);
  g_autoptr (GaioHandler) redraw = NULL;
  g_autoptr (GaioHandler) keys = NULL;

  if (changed == NULL)
    return FALSE;
  redraw = gaio_context_add_notifier (context, changed, on_screen_changed, self, NULL, error);
  if (redraw == NULL)
    return FALSE;
  /* If this fails, Ctrl-C still works. */
  if (isatty (STDIN_FILENO))
    keys = gaio_context_add_fd (context, STDIN_FILENO, G_IO_IN, on_key, self, NULL, NULL);
  top_screen_enter (changed);
  begin_round (self);
  g_main_loop_run (self->loop);
  top_screen_leave ();
  gaio_clear_handler (&keys);
  gaio_clear_handler (&redraw);
  return TRUE;
}

/* The whole */

static void
on_bus_closed (GDBusConnection *connection,
               gboolean remote_peer_vanished,
               GError *error,
               gpointer user_data)
{
  Top *self = user_data;

  top_screen_leave ();
  g_printerr ("gaio-top: the session bus is gone\n");
  stop (self, 1);
}

static gboolean
run (Top *self, GDBusConnection *connection, GError **error)
{
  gboolean done = TRUE;

  self->loop = g_main_loop_new (NULL, FALSE);
  self->last_text = g_string_new (NULL);
  self->timer = gaio_context_add_timer (gaio_context_get_default (), on_timer, self, NULL);
  self->bus = top_bus_new (connection, self->options.slowest, on_round_over, self);
  self->on_screen = !self->options.once && !self->options.json && top_screen_is_possible ();
  if (self->on_screen)
    done = run_on_screen (self, error);
  else
    {
      begin_round (self);
      g_main_loop_run (self->loop);
    }
  gaio_clear_timer (&self->timer);
  top_bus_free (self->bus);
  g_string_free (self->last_text, TRUE);
  g_main_loop_unref (self->loop);
  return done;
}

static int
run_on_session_bus (Options options)
{
  Top top = { .options = options };
  g_autoptr (GError) error = NULL;
  g_autoptr (GDBusConnection) connection = g_bus_get_sync (G_BUS_TYPE_SESSION, NULL, &error);

  if (connection == NULL)
    {
      g_printerr ("gaio-top: no session bus: %s\n", error->message);
      return 1;
    }
  g_dbus_connection_set_exit_on_close (connection, FALSE);
  g_signal_connect (connection, "closed", G_CALLBACK (on_bus_closed), &top);
  if (!run (&top, connection, &error))
    {
      g_printerr ("gaio-top: %s\n", error->message);
      top.status = 1;
    }
  g_signal_handlers_disconnect_by_data (connection, &top);
  return top.status;
}

int
main (int argc, char **argv)
{
  Options options = {
    .interval = 1,
    .slowest = 3,
    .pids = g_array_new (FALSE, FALSE, sizeof (guint64)),
  };
  g_autoptr (GError) error = NULL;
  int status = 0;

  setlocale (LC_CTYPE, "");
  if (!parse_options (&options, &argc, &argv, &error))
    {
      g_printerr ("gaio-top: %s\nTry gaio-top --help.\n", error->message);
      status = 2;
    }
  else if (options.version)
    g_print ("gaio-top " GAIO_TOP_VERSION "\n");
  else
    status = run_on_session_bus (options);
  clear_options (&options);
  return status;
}

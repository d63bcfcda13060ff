/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The statistics that a loop reports about itself, and what follows from two samples of them. */
#pragma once

#include <gio/gio.h>

/* The statistics that are numbers. */
typedef enum
{
  TOP_FIGURE_PID,
  TOP_FIGURE_HANDLERS,
  TOP_FIGURE_DORMANT_HANDLERS,
  TOP_FIGURE_TIMERS,
  TOP_FIGURE_ARMED_TIMERS,
  TOP_FIGURE_MAIN_CONTEXTS,
  TOP_FIGURE_ROUNDS,
  TOP_FIGURE_CALLBACKS,
  TOP_FIGURE_WAKEUPS,
  TOP_FIGURE_REBUILDS,
  TOP_FIGURE_CALLBACK_TIME,
  TOP_N_FIGURES,
} TopFigure;

typedef struct
{
  gint64 time_us; /* when it arrived, on the monotonic clock; 0 if none has arrived */
  gboolean known[TOP_N_FIGURES];
  guint64 values[TOP_N_FIGURES];
} TopSample;

typedef struct
{
  char *kind;
  char *name; /* "" if it has none */
  int fd;     /* -1 if it has none */
  guint64 calls;
  guint64 total_us;
  guint64 longest_us;
} TopSlow;

typedef struct
{
  char *bus_name;
  guint number;
  gboolean answers;
  char *program; /* these three are NULL if not reported */
  char *monitor;
  char *monitor_note;
  TopSample before;
  TopSample now;
  GArray *slowest; /* of TopSlow */
} TopLoop;

TopLoop *top_loop_new (const char *bus_name, guint number);
void top_loop_free (TopLoop *self);
void top_loop_take_stats (TopLoop *self, GVariant *stats, gint64 time_us);
void top_loop_take_slowest (TopLoop *self, GVariant *slowest, guint max);
const char *top_figure_get_key (TopFigure figure);
gboolean top_loop_get_figure (const TopLoop *self, TopFigure figure, guint64 *value);
gboolean top_loop_get_seconds (const TopLoop *self, double *seconds);
gboolean top_loop_get_rate (const TopLoop *self, TopFigure figure, double *per_second);
int top_loop_compare (gconstpointer a, gconstpointer b);

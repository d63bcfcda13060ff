/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <glib-unix.h>

/* How many events one epoll_wait() may give: Gaio's default dispatch limit, so the same for all. */
#define BENCH_MAX_EVENTS 128

/* One event loop, and what programs do with it. It is opened, turned and closed by one thread,
 * which owns it as one inside g_main_loop_run() does. NULL: it has nothing of the kind. */
typedef struct
{
  const char *name;
  gboolean linear; /* a turn costs O(n): measure fewer of them */
  gpointer (*open) (void);
  void (*turn) (gpointer loop); /* once, and may block */
  void (*close) (gpointer loop);

  /* Turns until a callback quits. */
  void (*run) (gpointer loop);
  void (*quit) (gpointer loop);

  /* Once for each loop. */
  void (*watch) (gpointer loop,
                 const int *fds,
                 guint n_fds,
                 GUnixFDSourceFunc func,
                 gpointer user_data);

  /* Any thread: @func, which returns G_SOURCE_REMOVE, is called once by the loop. */
  void (*call) (gpointer loop, GSourceFunc func, gpointer user_data);

  /* Any thread sends; @func is called for one send or several, and returns G_SOURCE_CONTINUE. */
  gpointer (*signal_new) (gpointer loop, GSourceFunc func, gpointer user_data);
  void (*signal_send) (gpointer signal);
  void (*signal_free) (gpointer signal);

  /* Armed when new; @func is called once and returns G_SOURCE_REMOVE. */
  gpointer (*timer_new) (gpointer loop, guint delay_ms, GSourceFunc func, gpointer user_data);
  void (*timer_arm) (gpointer timer, guint delay_ms);
  void (*timer_disarm) (gpointer timer);
  void (*timer_free) (gpointer timer);
} BenchContender;

extern const BenchContender bench_glib;
extern const BenchContender bench_raw_epoll;
extern const BenchContender bench_hand_written;
extern const BenchContender bench_gaio_nested;
extern const BenchContender bench_gaio_alone;
extern const BenchContender bench_gaio_host;
#ifdef HAVE_LIBUV
extern const BenchContender bench_uv;
#endif

typedef struct
{
  double median;
  double low; /* quartiles */
  double high;
} BenchSpread;

BenchSpread bench_spread (const double *values, guint n);
BenchSpread bench_paired_ratio (const double *numerators, const double *denominators, guint n);

double bench_now_ns (void);
void bench_shuffle (GRand *rand, int *numbers, guint n);
/* How many fds a benchmark may have. */
guint bench_raise_fd_limit (void);
/* Ascending. */
int *bench_open_eventfds (guint n);

gboolean bench_chosen (const char *option, const char *name);

void
bench_parse_options (const char *summary, const GOptionEntry *entries, int *argc, char ***argv);
void bench_usage_error (const char *message) G_GNUC_NORETURN;

/* A line on a terminal that the next one overwrites. */
void bench_progress (const char *format, ...) G_GNUC_PRINTF (1, 2);
void bench_progress_end (void);

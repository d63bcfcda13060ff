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
  const char *version;           /* NULL: that of Gaio itself */
  gboolean linear;               /* a turn costs O(n): measure fewer of them */
  gboolean (*can_be_had) (void); /* NULL: always */
  gpointer (*open) (void);
  void (*turn) (gpointer loop);  /* once, and may block */
  void (*close) (gpointer loop); /* once nothing is watched */

  /* Turns until a callback quits. NULL: programs write that loop themselves. */
  void (*run) (gpointer loop);
  void (*quit) (gpointer loop);

  /* Input at first. The loop may tell the kernel of it in its next turn. */
  gpointer (*fd_add) (gpointer loop, int fd, GUnixFDSourceFunc func, gpointer user_data);
  void (*fd_modify) (gpointer watch, GIOCondition condition);
  void (*fd_remove) (gpointer watch);

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
extern const BenchContender bench_uv;
extern const BenchContender bench_libevent;
extern const BenchContender bench_libev;
extern const BenchContender bench_sd_event;
extern const BenchContender bench_raw_uring;

double bench_now_ns (void);
/* Of this thread, user and kernel: for what never sleeps, so that other programs do not count. */
double bench_cpu_ns (void);
void bench_shuffle (GRand *rand, int *numbers, guint n);
/* The numbers below @n in a random order, for all contenders of a round. */
void bench_reshuffle (GRand *rand, int **numbers, guint n);
/* How many fds a benchmark may have. */
guint bench_raise_fd_limit (void);

/* All at once, in the order that is the cheapest for the worst of them. The contender's watches, in
 * the order of the fds. */
gpointer *bench_watch (const BenchContender *contender,
                       gpointer loop,
                       const int *fds,
                       guint n_fds,
                       GUnixFDSourceFunc func,
                       gpointer user_data);
void bench_unwatch (const BenchContender *contender, gpointer *watches, guint n_fds);

void
bench_parse_options (const char *summary, const GOptionEntry *entries, int *argc, char ***argv);
void bench_usage_error (const char *message) G_GNUC_NORETURN;

/* A line on a terminal that the next one overwrites. */
void bench_progress (const char *format, ...) G_GNUC_PRINTF (1, 2);
void bench_progress_end (void);

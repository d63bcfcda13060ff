/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-busy-poll-private.h"

#include "gaio-handler-private.h"

/* How long a window is that opens again. */
#define FIRST_WINDOW_US 4

/* What a session polls, as it was when the session began: each begin needs its end. */
typedef struct
{
  GaioHandler *handler;
  GaioPollFuncs funcs;
} Poller;

static GaioHandlerExtra *
extra_from_pollers (GaioLink *link)
{
  return gaio_link_entry (link, GaioHandlerExtra, pollers);
}

/* A single handler that only the kernel can poll makes busy polling pointless. */
gboolean
gaio_busy_poll_is_usable (GaioCore *core)
{
  return core->busy_poll.n_pollers > 0 && core->busy_poll.n_pollers == core->handlers.n_handlers;
}

/* Each handler counts as running, as it does during its callback, so that
 * gaio_handler_remove_sync() waits. */
static GArray *
take_pollers (GaioCore *core)
{
  GArray *pollers = g_array_new (FALSE, FALSE, sizeof (Poller));

  gaio_list_foreach (&core->busy_poll.pollers, link)
    {
      GaioHandler *handler = extra_from_pollers (link)->handler;
      Poller poller = { gaio_handler_ref (handler), extra_from_pollers (link)->poll_funcs };

      gaio_entry_begin (&handler->entry);
      g_array_append_val (pollers, poller);
    }
  return pollers;
}

/* Without the lock. */
static void
release_pollers (GaioCore *core, GArray *pollers)
{
  for (guint i = 0; i < pollers->len; i++)
    {
      GaioHandler *handler = g_array_index (pollers, Poller, i).handler;

      if (gaio_entry_end (&handler->entry))
        gaio_handler_after_callback (handler);
      gaio_handler_unref (handler);
    }
  g_array_unref (pollers);
}

static gboolean
poll_one (const Poller *poller)
{
  GaioHandler *handler = poller->handler;
  gboolean ready = atomic_load_explicit (&handler->mask, memory_order_acquire) != 0 &&
                   poller->funcs.poll (handler->entry.user_data);

  atomic_store_explicit (&handler->extra->polled, ready, memory_order_relaxed);
  return ready;
}

static gboolean
poll_all (GArray *pollers)
{
  gboolean ready = FALSE;

  for (guint i = 0; i < pollers->len; i++)
    ready |= poll_one (&g_array_index (pollers, Poller, i));
  return ready;
}

static void
begin_all (GArray *pollers)
{
  for (guint i = 0; i < pollers->len; i++)
    {
      const Poller *poller = &g_array_index (pollers, Poller, i);

      if (poller->funcs.begin != NULL)
        poller->funcs.begin (poller->handler->entry.user_data);
    }
}

static void
end_all (GArray *pollers)
{
  for (guint i = 0; i < pollers->len; i++)
    {
      const Poller *poller = &g_array_index (pollers, Poller, i);

      if (poller->funcs.end != NULL)
        poller->funcs.end (poller->handler->entry.user_data);
    }
}

/* Somebody has something for the loop. */
static gboolean
is_disturbed (GaioCore *core)
{
  return gaio_sleep_get (&core->sleep) != GAIO_POLLING;
}

static gboolean
poll_until (GaioCore *core, GArray *pollers, gint64 end)
{
  do
    if (poll_all (pollers) || is_disturbed (core))
      return TRUE;
  while (g_get_monotonic_time () < end);
  return FALSE;
}

static gint64
longest_window (GaioCore *core)
{
  gint64 longest = core->busy_poll.window_us;

  gaio_list_foreach (&core->busy_poll.pollers, link)
    longest = MAX (longest, extra_from_pollers (link)->window_us);
  return MIN (longest, core->busy_poll.max_us);
}

static gint64
grown (GaioCore *core, gint64 window)
{
  if (window == 0)
    return MIN (FIRST_WINDOW_US, core->busy_poll.max_us);
  return window > core->busy_poll.max_us / core->busy_poll.grow ? core->busy_poll.max_us
                                                                : window * core->busy_poll.grow;
}

static gint64
shrunk (GaioCore *core, gint64 window)
{
  return core->busy_poll.shrink > 0 ? window / core->busy_poll.shrink : 0;
}

/* A window that was too short for an event that came soon grows; one in which nothing came
 * shrinks. */
static void
adapt (GaioCore *core, gint64 *window, gint64 waited, gboolean was_ready)
{
  if (waited > core->busy_poll.max_us)
    *window = shrunk (core, *window);
  else if (was_ready && waited > *window)
    *window = grown (core, *window);
}

static void
adapt_all (GaioCore *core, gboolean news)
{
  gint64 waited = g_get_monotonic_time () - core->busy_poll.started;

  if (core->busy_poll.started == 0)
    return;
  core->busy_poll.started = 0;
  adapt (core, &core->busy_poll.window_us, waited,
         news && core->busy_poll.n_pollers < core->handlers.n_handlers);
  gaio_list_foreach (&core->busy_poll.pollers, link)
    {
      GaioHandlerExtra *extra = extra_from_pollers (link);
      GaioHandler *handler = extra->handler;
      gboolean was_ready = news &&
                           handler->entry.stamp == gaio_ready_list_get_stamp (&core->ready) &&
                           handler->revents != 0;

      adapt (core, &extra->window_us, waited, was_ready);
    }
}

/* After a gathering that has found something ready. */
void
gaio_busy_poll_adapt (GaioCore *core)
{
  adapt_all (core, TRUE);
}

/* While the lock is released, other threads end the sleep if there is something to do. */
static void
let_others_in (GaioCore *core)
{
  gaio_sleep_set (&core->sleep, GAIO_POLLING);
  gaio_core_unlock (core);
}

/* TRUE if they have done so: then there may be something that nobody has looked at. Also TRUE in a
 * forked child, which must not sleep. */
static gboolean
come_back (GaioCore *core)
{
  gboolean disturbed;

  gaio_core_relock (core);
  disturbed = gaio_sleep_get (&core->sleep) != GAIO_POLLING || gaio_core_is_forked (core);
  gaio_sleep_set (&core->sleep, GAIO_AWAKE);
  return disturbed;
}

/* Busy-polls once, for the round that is about to gather: what a session has found may have been
 * consumed by another source. TRUE if the loop must not sleep. */
gboolean
gaio_busy_poll_once (GaioCore *core)
{
  GArray *pollers = take_pollers (core);
  gboolean ready;

  let_others_in (core);
  ready = poll_all (pollers);
  release_pollers (core, pollers);
  return come_back (core) || ready;
}

/* Busy-polls until something is ready, the window is over, or @deadline (-1: never) has passed.
 * TRUE if the loop must not sleep. */
gboolean
gaio_busy_poll_session (GaioCore *core, gint64 deadline)
{
  GArray *pollers;
  gint64 window, end;
  gboolean ready;

  /* The wait before was in vain. */
  adapt_all (core, FALSE);
  window = longest_window (core);
  core->busy_poll.started = g_get_monotonic_time ();
  if (window == 0)
    return gaio_busy_poll_once (core);
  end = core->busy_poll.started + window;
  if (deadline != -1)
    end = MIN (end, deadline);
  pollers = take_pollers (core);
  if (gaio_monitor_is_open (&core->monitor))
    gaio_monitor_begin_wait (&core->monitor);
  let_others_in (core);
  begin_all (pollers);
  ready = poll_until (core, pollers, end);
  end_all (pollers);
  /* Between begin and end nobody has to signal the fd: this finds what has come since the last
   * poll. */
  ready = ready || poll_all (pollers);
  release_pollers (core, pollers);
  return come_back (core) || ready;
}

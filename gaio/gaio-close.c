/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-close-private.h"

#include "gaio-bottom-half-private.h"
#include "gaio-file-engine-private.h"
#include "gaio-handler-private.h"
#include "gaio-inner-life-private.h"
#include "gaio-inner-spare-private.h"
#include "gaio-ready-set-private.h"
#include "gaio-sweep-private.h"
#include "gaio-timer-private.h"

static void
destroy_handler (GaioLink *siblings)
{
  gaio_handler_destroy (gaio_link_entry (siblings, GaioHandler, entry.siblings));
}

/* With the lock held. */
static void
destroy_everything (GaioCore *core)
{
  GaioLink *link;

  for (guint fd = 0; fd < gaio_slots_size (&core->handlers.slots); fd++)
    {
      GaioSlot *slot = gaio_registration_lookup (core, fd);

      while (slot != NULL && slot->members.first != NULL)
        destroy_handler (slot->members.first);
    }
  while ((link = gaio_list_first (&core->handlers.dormant)) != NULL)
    destroy_handler (link);
  while ((link = gaio_list_first (&core->handlers.set_funcs)) != NULL)
    gaio_ready_set_watch_destroy (gaio_link_entry (link, GaioReadySetWatch, entry.siblings));
  while ((link = gaio_list_first (&core->inners.all)) != NULL)
    gaio_inner_destroy (gaio_inner_from_siblings (link));
  gaio_sweep_clear (core);
  while ((link = gaio_list_first (&core->timers.all)) != NULL)
    gaio_timer_destroy (gaio_timer_from_siblings (link));
  while ((link = gaio_list_first (&core->bottom_halves.all)) != NULL)
    gaio_bottom_half_destroy (gaio_bottom_half_from_siblings (link));
}

/* After this thread has claimed it, without the lock. If a notify forks, the child leaves the rest
 * to its parent. */
static void
tear_down (GaioCore *core, GSource *source)
{
  int lost_fd;

  gaio_core_lock (core);
  lost_fd = core->life.lost_fd;
  destroy_everything (core);
  gaio_core_unlock (core);
  gaio_file_engine_close (core);
  if (lost_fd != -1)
    g_critical (
        "Somebody has closed fd %d, the epoll fd of a GaioContext, so the context is closed too",
        lost_fd);

  /* The pollfd leaves GLib before the epoll fd is closed. */
  if (source != NULL)
    g_source_destroy (source);
  while (gaio_entry_has_pending_notifies (core) && !gaio_core_is_forked (core))
    gaio_entry_run_notifies (core);
  gaio_bottom_half_drop_calls (core);
  gaio_inner_spare_clear (core);

  if (!gaio_core_lock (core))
    return;
  core->life.stage = GAIO_LIFE_EMPTIED;
  if (core->nesting.n_detached_sources == 0)
    gaio_core_close_fds (core);
  gaio_core_unlock (core);
}

/* Makes this thread the owner of the GMainContext that @core is nested in, if there is one. FALSE
 * if another thread owns it. With the lock held. */
static gboolean
acquire_main_context (GaioCore *core, GMainContext **main_context)
{
  core->nesting.main_context = gaio_nesting_get_main_context (&core->nesting);
  *main_context = core->nesting.main_context;
  return *main_context == NULL || g_main_context_acquire (*main_context);
}

/* With the lock held: makes this thread the one that tears @core down, if that is due and nobody
 * else owns the context. */
static gboolean
claim (GaioCore *core, GMainContext **main_context)
{
  if (core->life.stage != GAIO_LIFE_CLOSED ||
      atomic_load_explicit (&core->round_thread, memory_order_acquire) != NULL ||
      !acquire_main_context (core, main_context))
    return FALSE;
  core->life.stage = GAIO_LIFE_TEARING_DOWN;
  atomic_store_explicit (&core->round_thread, gaio_this_thread (), memory_order_relaxed);
  core->depth = 1;
  return TRUE;
}

/* Whether to drop the reference of the shell now: the GObject has gone, everything has been torn
 * down, and nobody is inside a round. With the lock held. */
static gboolean
take_reference (GaioCore *core)
{
  if (core->life.shell != NULL || core->life.stage != GAIO_LIFE_EMPTIED ||
      atomic_load_explicit (&core->round_thread, memory_order_relaxed) != NULL)
    return FALSE;
  core->life.stage = GAIO_LIFE_RELEASED;
  return TRUE;
}

/* A forked child leaves a round of its parent: the core goes if the GObject has gone in the
 * meantime. */
void
gaio_close_leave_in_child (GaioCore *core)
{
  if (--core->depth > 0 || core->life.shell != NULL || core->life.stage == GAIO_LIFE_RELEASED)
    return;
  core->life.stage = GAIO_LIFE_RELEASED;
  gaio_core_unref (core);
}

/* Takes and releases the lock. */
static gboolean
leave (GaioCore *core)
{
  gboolean last;

  if (!gaio_core_lock (core))
    {
      gaio_close_leave_in_child (core);
      return FALSE;
    }
  core->depth = 0;
  atomic_store_explicit (&core->round_thread, NULL, memory_order_release);
  last = take_reference (core);
  gaio_core_unlock (core);
  return last;
}

/* Tears down a context that has been marked closed, if this is the thread to do it. Called with the
 * lock, which it releases. */
void
gaio_close_finish (GaioCore *core)
{
  GMainContext *main_context = NULL;
  g_autoptr (GSource) source = NULL;
  gboolean claimed = claim (core, &main_context);
  gboolean last = !claimed && take_reference (core);

  if (claimed && core->nesting.source != NULL)
    source = g_source_ref (core->nesting.source);
  gaio_core_unlock (core);
  if (claimed)
    {
      tear_down (core, source);
      if (main_context != NULL)
        g_main_context_release (main_context);
      last = leave (core);
    }
  if (last)
    gaio_core_unref (core);
}

/* Called with the lock, which it releases. */
static void
mark_closed (GaioCore *core)
{
  gaio_life_close (&core->life);
  gaio_core_wake (core);
  gaio_host_state_wake_running (&core->host);
  gaio_close_finish (core);
}

/* Marks @core closed. If a thread owns it, that thread tears it down when its callbacks have
 * returned. */
void
gaio_close (GaioCore *core)
{
  if (gaio_core_lock (core))
    mark_closed (core);
}

/* In a forked child, which may first have to return to a round of its parent. If that round was in
 * another thread, the child does not return to it. */
static void
drop_shell_in_child (GaioCore *core)
{
  core->life.shell = NULL;
  if (core->depth > 0)
    return;
  core->life.stage = GAIO_LIFE_RELEASED;
  gaio_core_unref (core);
}

/* The GObject goes. The core goes with it, or later, when it has been torn down. */
void
gaio_close_drop_shell (GaioCore *core)
{
  if (!gaio_core_lock (core))
    {
      drop_shell_in_child (core);
      return;
    }
  core->life.shell = NULL;
  mark_closed (core);
}

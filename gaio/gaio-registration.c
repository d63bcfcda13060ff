/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-registration-private.h"

#include <errno.h>
#include <string.h>

#include "monitor/gaio-monitor-epoll-private.h"
#include "base/gaio-poison-private.h"

/* About as many files can be added to a new set in the time that one needless wake-up takes. */
#define HANDLERS_PER_STALE 16

typedef enum
{
  EMPTY,        /* no handler has it in the set */
  IN_SET,       /* epoll watches it */
  ALWAYS_READY, /* epoll refuses it, because for poll(2) it is always ready */
} SlotState;

static GaioHandler *
handler_from_siblings (GaioLink *link)
{
  return gaio_link_entry (link, GaioHandler, entry.siblings);
}

/* A key that no later use of the same number has. */
static guint64
slot_key (const GaioSlot *slot, gint fd)
{
  return (guint64) slot->generation << 32 | (guint32) fd;
}

static guint32
wanted_of (GaioHandler *handler)
{
  return atomic_load_explicit (&handler->mask, memory_order_relaxed);
}

static guint32
wanted_by_all (GaioSlot *slot)
{
  guint32 wanted = 0;

  gaio_ring_foreach (&slot->members, link)
    wanted |= wanted_of (handler_from_siblings (link));
  return wanted;
}

/* What will be reported, sooner or later. */
static guint
reportable (GaioHandler *handler)
{
  guint condition = atomic_load_explicit (&handler->condition, memory_order_relaxed);

  if (condition == 0 || handler->dormant || gaio_entry_is_removed (&handler->entry))
    return 0;
  return condition | G_IO_HUP | G_IO_ERR;
}

/* What to wait for, and report, now. */
static void
refresh_mask (GaioHandler *handler)
{
  atomic_store_explicit (&handler->mask, handler->masked ? 0 : reportable (handler),
                         memory_order_release);
}

/* Returns what few handlers need, created when it is first needed. With the lock held. */
GaioHandlerExtra *
gaio_handler_get_extra (GaioHandler *handler)
{
  if (handler->extra == NULL)
    {
      handler->extra = g_new0 (GaioHandlerExtra, 1);
      handler->extra->handler = handler;
    }
  return handler->extra;
}

static void
refresh_mask_and_record (GaioHandler *handler)
{
  refresh_mask (handler);
  if (handler->entry.kind == GAIO_ENTRY_MEMBER)
    gaio_records_filter (handler->membership->records, &handler->membership->record,
                         reportable (handler));
}

/* Adds @handler to the list of those that are ready whatever the kernel says, or removes it. */
static void
update_always (GaioHandler *handler)
{
  if (!handler->always_ready && !handler->reports_once)
    return;
  gaio_link_unlink (&handler->extra->always);
  if ((wanted_of (handler) & handler->extra->known) != 0)
    {
      gaio_list_push (&handler->entry.core->handlers.always, &handler->extra->always);
      gaio_core_wake (handler->entry.core);
    }
}

/* Whether what is gathered for @handler is more than a call of its function. */
static gboolean
is_special (const GaioHandler *handler)
{
  return handler->entry.kind == GAIO_ENTRY_INNER_FD || handler->entry.kind == GAIO_ENTRY_FILE_RING;
}

static void
refresh_plain (GaioSlot *slot)
{
  slot->plain = slot->members.first != NULL && !gaio_ring_is_shared (&slot->members) &&
                !slot->reports_once && !is_special (handler_from_siblings (slot->members.first));
}

static void
add_member (GaioSlot *slot, GaioHandler *handler)
{
  gaio_ring_push (&slot->members, &handler->entry.siblings);
  refresh_plain (slot);
}

static void
remove_member (GaioSlot *slot, GaioHandler *handler)
{
  gaio_ring_remove (&slot->members, &handler->entry.siblings);
  refresh_plain (slot);
}

static void
leave_set (GaioCore *core, GaioSlot *slot, gint fd)
{
  /* The number is closed or refers to another file by now. A copy of the fd may keep the old file
   * in the set, and only a rebuild can remove it. */
  if (slot->state == IN_SET && core->monitor.ops->remove (&core->monitor, fd) != 0)
    core->handlers.may_be_stale = TRUE;
  slot->state = EMPTY;
  slot->reports_once = slot->hung_up = FALSE;
  slot->mask = 0;
  slot->generation++;
}

/* The number of @handler no longer refers to the ring. */
static void
lose_ring (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;

  core->files.lost = core->files.has_new = TRUE;
  gaio_core_wake (core);
}

/* The number no longer refers to the file that the handlers of @slot were added for. */
static void
make_dormant (GaioCore *core, GaioSlot *slot, gint fd)
{
  GaioLink *link;

  leave_set (core, slot, fd);
  while ((link = slot->members.first) != NULL)
    {
      GaioHandler *handler = handler_from_siblings (link);

      remove_member (slot, handler);
      handler->dormant = true;
      refresh_mask_and_record (handler);
      update_always (handler);
      gaio_list_push (&core->handlers.dormant, link);
      core->handlers.n_dormant++;
      if (handler->entry.kind == GAIO_ENTRY_FILE_RING)
        lose_ring (handler);
    }
}

/* Some monitors notice a change only with the next wait. */
static int
after_change (GaioCore *core, int errsv)
{
  if (errsv == 0 && core->monitor.ops->lazy)
    gaio_core_wake (core);
  return errsv;
}

static int
modify (GaioCore *core, GaioSlot *slot, gint fd, guint32 mask)
{
  GaioMonitor *monitor = &core->monitor;

  slot->hung_up = FALSE;
  return after_change (core, monitor->ops->modify (monitor, fd, mask, slot_key (slot, fd)));
}

static int
add_to_set (GaioCore *core, GaioSlot *slot, gint fd, guint32 mask)
{
  GaioMonitor *monitor = &core->monitor;
  int errsv = after_change (core, gaio_monitor_add (monitor, fd, mask, slot_key (slot, fd)));

  /* The number has been closed, and has come back for the same file, which is still in the set. */
  if (errsv == EEXIST)
    errsv = modify (core, slot, fd, mask);
  return errsv;
}

/* One more handler wants @mask on @fd. epoll_ctl(2), even if it changes nothing, shows whether the
 * number still refers to the same file. */
static int
enter_set (GaioCore *core, GaioSlot *slot, gint fd, guint32 mask)
{
  int errsv;

  if (slot->state == IN_SET)
    {
      errsv = modify (core, slot, fd, mask | wanted_by_all (slot));
      if (errsv != ENOENT)
        return errsv;
      make_dormant (core, slot, fd);
    }
  errsv = add_to_set (core, slot, fd, mask);
  if (errsv == 0 && slot->state == ALWAYS_READY)
    {
      make_dormant (core, slot, fd);
      errsv = modify (core, slot, fd, mask);
    }
  return errsv;
}

static int
enter_always (GaioCore *core, GaioSlot *slot, GaioHandler *handler)
{
  GaioLink *first = slot->members.first;
  GaioFileId file;
  int errsv = gaio_file_id_get (&file, handler->fd);

  if (errsv != 0)
    return errsv;
  /* Handlers that were added for another file become dormant. */
  if (first != NULL)
    gaio_registration_check_always (handler_from_siblings (first));
  gaio_handler_get_extra (handler)->file = file;
  handler->extra->known = GAIO_ALWAYS_READY;
  handler->always_ready = true;
  slot->state = ALWAYS_READY;
  return 0;
}

static void
enter_slot (GaioCore *core, GaioSlot *slot, GaioHandler *handler)
{
  slot->state = IN_SET;
  slot->reports_once = gaio_monitor_reports_once (&core->monitor, handler->fd);
  handler->reports_once = slot->reports_once;
  if (handler->reports_once)
    gaio_handler_get_extra (handler);
}

/* Memory for a handler of @fd, all zero, or NULL if its slot has no room for another. */
GaioHandler *
gaio_registration_take_room (GaioCore *core, gint fd)
{
  GaioSlot *slot = gaio_slots_get (&core->handlers.slots, fd, sizeof (GaioSlot));

  if (atomic_load_explicit (&slot->taken, memory_order_acquire))
    return NULL;
  atomic_store_explicit (&slot->taken, true, memory_order_relaxed);
  gaio_unpoison (&slot->handler, sizeof (GaioHandler));
  memset (&slot->handler, 0, sizeof (GaioHandler));
  slot->handler.in_slot = true;
  return &slot->handler;
}

/* Any thread, with or without the lock. */
void
gaio_registration_give_room_back (GaioHandler *handler)
{
  GaioSlot *slot = gaio_link_entry (handler, GaioSlot, handler);

  gaio_poison (handler, sizeof (GaioHandler));
  atomic_store_explicit (&slot->taken, false, memory_order_release);
}

/* Returns 0 or an errno; after an error, nothing has changed. The monitor must be open. */
int
gaio_registration_add (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;
  GaioSlot *slot = gaio_registration_lookup (core, handler->fd);
  int errsv;

  /* These fds are already in the set, for something else. */
  if (gaio_monitor_owns (&core->monitor, handler->fd))
    return EINVAL;
  refresh_mask (handler);
  errsv = enter_set (core, slot, handler->fd, wanted_of (handler));
  if (errsv == EPERM)
    errsv = enter_always (core, slot, handler);
  else if (errsv == 0)
    enter_slot (core, slot, handler);
  if (errsv != 0)
    return errsv;
  add_member (slot, handler);
  slot->mask = wanted_by_all (slot);
  update_always (handler);
  return 0;
}

/* Whether @events may come from what @slot waits for. The set reports a hang-up even if @slot waits
 * for nothing, but only once. */
gboolean
gaio_registration_expects (GaioSlot *slot, guint events)
{
  gboolean hangs_up = slot->mask == 0 && !slot->hung_up && (events & ~(EPOLLERR | EPOLLHUP)) == 0;

  slot->hung_up |= hangs_up;
  return hangs_up || (events & slot->mask) != 0;
}

/* Tells the monitor what the handlers of @slot want now, if that has changed. */
static int
update_slot (GaioCore *core, GaioSlot *slot, gint fd)
{
  guint32 wanted = wanted_by_all (slot);
  int errsv = 0;

  if (slot->state == IN_SET && slot->mask != wanted)
    errsv = modify (core, slot, fd, wanted);
  if (errsv == 0)
    slot->mask = wanted;
  else if (errsv != ENOMEM)
    make_dormant (core, slot, fd);
  return errsv;
}

/* After it has been marked removed. */
void
gaio_registration_remove (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;
  GaioSlot *slot = gaio_registration_lookup (core, handler->fd);

  refresh_mask_and_record (handler);
  update_always (handler);
  if (handler->dormant)
    {
      gaio_link_unlink (&handler->entry.siblings);
      core->handlers.n_dormant--;
      return;
    }
  remove_member (slot, handler);
  if (slot->members.first == NULL)
    leave_set (core, slot, handler->fd);
  else
    update_slot (core, slot, handler->fd);
}

/* Tells the monitor what @handler wants now. Returns 0 or an errno. */
static int
update (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;

  if (handler->dormant || gaio_entry_is_removed (&handler->entry))
    return ENOENT;
  update_always (handler);
  return update_slot (core, gaio_registration_lookup (core, handler->fd), handler->fd);
}

/* Returns 0 or an errno; after an error, nothing has changed, except that the handler may be
 * dormant. */
int
gaio_registration_set_condition (GaioHandler *handler, guint condition)
{
  guint before = atomic_exchange_explicit (&handler->condition, condition, memory_order_relaxed);
  int errsv;

  refresh_mask (handler);
  errsv = update (handler);
  if (errsv != 0)
    atomic_store_explicit (&handler->condition, before, memory_order_relaxed);
  refresh_mask_and_record (handler);
  return errsv;
}

/* Whether the number of @handler still means the file that it was added for. If not, it is dormant
 * from now on. */
gboolean
gaio_registration_confirm (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;
  GaioSlot *slot = gaio_registration_lookup (core, handler->fd);
  int errsv;

  if (handler->dormant || gaio_entry_is_removed (&handler->entry))
    return FALSE;
  if (handler->always_ready || handler->reports_once)
    return gaio_registration_check_always (handler);
  errsv = modify (core, slot, handler->fd, slot->mask);
  if (errsv != 0 && errsv != ENOMEM)
    make_dormant (core, slot, handler->fd);
  return !handler->dormant;
}

/* What a ready set has recorded for the handler stays. */
void
gaio_registration_set_masked (GaioHandler *handler, gboolean masked)
{
  handler->masked = masked;
  refresh_mask (handler);
  update (handler);
}

/* Whether the fd still refers to the same file. A file that is always ready, or reports once, is
 * not in the set, where the kernel would notice. A removed handler has no say in what the number
 * refers to now. */
gboolean
gaio_registration_check_always (GaioHandler *handler)
{
  GaioCore *core = handler->entry.core;

  if (handler->dormant || gaio_entry_is_removed (&handler->entry))
    return FALSE;
  if (handler->reports_once ? gaio_monitor_is_still (&core->monitor, handler->fd)
                            : gaio_file_id_is_still (&handler->extra->file, handler->fd))
    return TRUE;
  make_dormant (core, gaio_registration_lookup (core, handler->fd), handler->fd);
  return FALSE;
}

/* The file of @slot, which will not report it again, has reported @events. */
void
gaio_registration_report (GaioSlot *slot, guint events)
{
  gaio_ring_foreach (&slot->members, link)
    {
      GaioHandler *handler = handler_from_siblings (link);

      handler->extra->known |= events & reportable (handler);
      update_always (handler);
    }
}

void
gaio_registration_forget_reported (GaioHandler *handler)
{
  handler->extra->known = 0;
  update_always (handler);
}

/* The monitor has noticed that @fd is not open. */
void
gaio_registration_file_gone (GaioCore *core, int fd)
{
  GaioSlot *slot = gaio_registration_lookup (core, fd);

  if (slot != NULL && slot->state == IN_SET)
    make_dormant (core, slot, fd);
}

/* Adds the file of @slot to the new set. Another thread may close the number at any time, and get
 * it again for another file: if the old set still knows the number afterwards, the new set has the
 * same file. */
static gboolean
carry_over (GaioCore *core, GaioMonitorRebuild *rebuild, GaioSlot *slot, gint fd)
{
  int added, errsv;

  if (slot->reports_once)
    return TRUE;
  added = gaio_monitor_epoll_rebuild_add (rebuild, fd, slot->mask, slot_key (slot, fd));
  errsv = modify (core, slot, fd, slot->mask);

  if (errsv == 0 || errsv == ENOMEM)
    return added == 0 && errsv == 0;
  make_dormant (core, slot, fd);
  if (added == 0)
    gaio_monitor_epoll_rebuild_remove (rebuild, fd);
  return TRUE;
}

/* Removes files that the set still knows and nobody can delete by their number. FALSE if the kernel
 * refuses what this needs; then the set is unchanged. */
static gboolean
rebuild_set (GaioCore *core)
{
  GaioMonitorRebuild rebuild;
  gboolean complete;

  if (!gaio_monitor_epoll_rebuild_begin (&core->monitor, &rebuild))
    return FALSE;
  complete = TRUE;
  for (guint fd = 0; complete && fd < gaio_slots_size (&core->handlers.slots); fd++)
    {
      GaioSlot *slot = gaio_registration_lookup (core, fd);

      if (slot != NULL && slot->state == IN_SET)
        complete = carry_over (core, &rebuild, slot, fd);
    }
  if (!gaio_monitor_epoll_rebuild_end (&core->monitor, &rebuild, complete))
    return FALSE;
  core->handlers.may_be_stale = rebuild.suspect;
  core->handlers.n_stale = 0;
  core->counters.rebuilds++;
  gaio_host_state_set_rebuilt (&core->host);
  return TRUE;
}

/* The set has reported a file that nobody knows. A peer may cause this, and a rebuild takes time in
 * proportion to the size of the set, so the rebuild waits until the reports have cost as much. TRUE
 * if the set will not report such files again. */
gboolean
gaio_registration_clean_up (GaioCore *core)
{
  if (++core->handlers.n_stale < core->handlers.n_handlers / HANDLERS_PER_STALE)
    return FALSE;
  return rebuild_set (core);
}

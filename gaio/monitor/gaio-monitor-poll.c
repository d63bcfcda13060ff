/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-monitor-poll-private.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/gaio-file-id-private.h"
#include "gaio-monitor-wakeup-private.h"
#include "gaio-reports-once-private.h"

/* poll(2), for kernels and sandboxes that have nothing better, as the oracle for the other
 * monitors, and for files that may not be in an epoll set, see gaio-monitor-mixed.c. Everything in
 * it takes O(n) time, and GLib sees one pollfd for each fd. */

#define NOWHERE G_MAXUINT
/* How long to wait after the kernel has refused a poll that should not wait: if GLib sees a ready
 * fd, it dispatches us over and over. */
#define PAUSE_US 1000

typedef struct
{
  int fd;
  guint64 key;
  guint64 since; /* it is part of waits from this one on */
  gpointer tag;  /* GLib's, or NULL */
  gboolean changed;
  gboolean reports_once; /* see gaio_reports_once() */
  guint32 reported;      /* by such a file, perhaps to GLib, and not yet to the caller */
  GaioFileId file;
} Entry;

struct _GaioMonitorPoll
{
  GArray *entries;    /* of Entry */
  GArray *pollfds;    /* of struct pollfd, one for each entry; fd -1 where the mask is 0 */
  GHashTable *places; /* fd -> its entry */
  GArray *polled;     /* of struct pollfd: those of the wait; the others may change meanwhile */
  GArray *changed;    /* of int: fds whose current entry GLib does not know */
  GPtrArray *gone;    /* tags of entries that have been removed */
  guint64 n_waits;
  guint next; /* where the next wait begins to read, so that every fd has a turn */
};

static Entry *
entry_at (GaioMonitorPoll *self, guint place)
{
  return &g_array_index (self->entries, Entry, place);
}

static struct pollfd *
pollfd_at (GaioMonitorPoll *self, guint place)
{
  return &g_array_index (self->pollfds, struct pollfd, place);
}

static guint
place_of (GaioMonitorPoll *self, int fd)
{
  gpointer place;

  if (!g_hash_table_lookup_extended (self->places, GINT_TO_POINTER (fd), NULL, &place))
    return NOWHERE;
  return GPOINTER_TO_UINT (place);
}

static void
set_place (GaioMonitorPoll *self, int fd, guint place)
{
  g_hash_table_insert (self->places, GINT_TO_POINTER (fd), GUINT_TO_POINTER (place));
}

static void
drop_changes_of_removed (GaioMonitorPoll *self)
{
  g_array_set_size (self->changed, 0);
  for (guint i = 0; i < self->entries->len; i++)
    if (entry_at (self, i)->changed)
      g_array_append_val (self->changed, entry_at (self, i)->fd);
}

/* For GLib, which may never poll: fds that come and go must not pile up. */
static void
mark_changed (GaioMonitorPoll *self, Entry *entry)
{
  if (entry->changed)
    return;
  entry->changed = TRUE;
  g_array_append_val (self->changed, entry->fd);
  if (self->changed->len > 2 * self->entries->len)
    drop_changes_of_removed (self);
}

static void
set_mask (GaioMonitorPoll *self, guint place, guint32 mask)
{
  Entry *entry = entry_at (self, place);

  *pollfd_at (self, place) = (struct pollfd){ .fd = mask != 0 ? entry->fd : -1, .events = mask };
  mark_changed (self, entry);
}

int
gaio_monitor_poll_add (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  GaioMonitorPoll *self = mon->poll;
  Entry entry = { .fd = fd, .key = key, .since = self->n_waits + 1 };
  struct pollfd nothing = { .fd = -1 };
  int errsv = gaio_file_id_get (&entry.file, fd);

  if (errsv != 0)
    return errsv;
  entry.reports_once = gaio_reports_once (fd);
  set_place (self, fd, self->entries->len);
  g_array_append_val (self->entries, entry);
  g_array_append_val (self->pollfds, nothing);
  set_mask (self, self->entries->len - 1, mask);
  return 0;
}

int
gaio_monitor_poll_modify (GaioMonitor *mon, int fd, guint32 mask, guint64 key)
{
  GaioMonitorPoll *self = mon->poll;
  guint place = place_of (self, fd);

  if (!gaio_file_id_is_still (&entry_at (self, place)->file, fd))
    return ENOENT;
  entry_at (self, place)->key = key;
  /* Otherwise GLib is told of nothing, and woken up for that. */
  if (pollfd_at (self, place)->events != (short) mask)
    set_mask (self, place, mask);
  if (entry_at (self, place)->reported != 0 && mask != 0)
    gaio_monitor_wake (mon->wake_fd);
  return 0;
}

/* The last one moves to its place. */
int
gaio_monitor_poll_remove (GaioMonitor *mon, int fd)
{
  GaioMonitorPoll *self = mon->poll;
  guint place = place_of (self, fd);
  gpointer tag = entry_at (self, place)->tag;

  if (tag != NULL)
    g_ptr_array_add (self->gone, tag);
  g_array_remove_index_fast (self->entries, place);
  g_array_remove_index_fast (self->pollfds, place);
  if (place < self->entries->len)
    set_place (self, entry_at (self, place)->fd, place);
  g_hash_table_remove (self->places, GINT_TO_POINTER (fd));
  return 0;
}

static void
monitor_poll_close (GaioMonitor *mon)
{
}

void
gaio_monitor_poll_clear (GaioMonitor *mon)
{
  GaioMonitorPoll *self = g_steal_pointer (&mon->poll);

  g_array_unref (self->entries);
  g_array_unref (self->pollfds);
  g_hash_table_unref (self->places);
  g_array_unref (self->polled);
  g_array_unref (self->changed);
  g_ptr_array_unref (self->gone);
  g_free (self);
}

void
gaio_monitor_poll_make (GaioMonitor *mon)
{
  GaioMonitorPoll *self = g_new0 (GaioMonitorPoll, 1);

  self->entries = g_array_new (FALSE, FALSE, sizeof (Entry));
  self->pollfds = g_array_new (FALSE, FALSE, sizeof (struct pollfd));
  self->places = g_hash_table_new (NULL, NULL);
  self->polled = g_array_new (FALSE, FALSE, sizeof (struct pollfd));
  self->changed = g_array_new (FALSE, FALSE, sizeof (int));
  self->gone = g_ptr_array_new ();
  mon->poll = self;
}

static int
monitor_poll_open (GaioMonitor *mon)
{
  int errsv;

  gaio_monitor_poll_make (mon);
  errsv = gaio_monitor_poll_add (mon, mon->wake_fd, POLLIN, GAIO_MONITOR_KEY_WAKE);
  if (errsv == 0 && mon->timer_fd >= 0)
    errsv = gaio_monitor_poll_add (mon, mon->timer_fd, POLLIN, GAIO_MONITOR_KEY_TIMER);
  if (errsv != 0)
    gaio_monitor_poll_clear (mon);
  return errsv;
}

gboolean
gaio_monitor_poll_has (const GaioMonitor *mon, int fd)
{
  return place_of (mon->poll, fd) != NOWHERE;
}

gboolean
gaio_monitor_poll_reports_once (const GaioMonitor *mon, int fd)
{
  guint place = place_of (mon->poll, fd);

  return place != NOWHERE && entry_at (mon->poll, place)->reports_once;
}

gboolean
gaio_monitor_poll_is_still (const GaioMonitor *mon, int fd)
{
  guint place = place_of (mon->poll, fd);

  return place != NOWHERE && gaio_file_id_is_still (&entry_at (mon->poll, place)->file, fd);
}

/* What has been reported, and is in the mask, makes the next wait end at once: nobody would report
 * it again. */
void
gaio_monitor_poll_wake_for_reported (GaioMonitor *mon)
{
  GaioMonitorPoll *self = mon->poll;

  for (guint i = 0; i < self->entries->len; i++)
    if (entry_at (self, i)->reported != 0 && pollfd_at (self, i)->fd >= 0)
      {
        gaio_monitor_wake (mon->wake_fd);
        return;
      }
}

/* A source that has no pollfds yet: the tags of another source mean nothing here. */
static void
forget_tags (GaioMonitorPoll *self)
{
  g_ptr_array_set_size (self->gone, 0);
  for (guint i = 0; i < self->entries->len; i++)
    {
      entry_at (self, i)->tag = NULL;
      mark_changed (self, entry_at (self, i));
    }
}

static void
update_source (GSource *source, Entry *entry, const struct pollfd *pollfd)
{
  if (entry->tag != NULL && pollfd->fd >= 0)
    g_source_modify_unix_fd (source, entry->tag, pollfd->events);
  else if (entry->tag != NULL)
    g_source_remove_unix_fd (source, g_steal_pointer (&entry->tag));
  else if (pollfd->fd >= 0)
    entry->tag = g_source_add_unix_fd (source, entry->fd, pollfd->events);
  entry->changed = FALSE;
}

gboolean
gaio_monitor_poll_before_glib_poll (GaioMonitor *mon, GSource *source)
{
  GaioMonitorPoll *self = mon->poll;

  if (mon->glib_source != source)
    {
      forget_tags (self);
      gaio_monitor_poll_wake_for_reported (mon);
    }
  mon->glib_source = source;
  for (guint i = 0; i < self->gone->len; i++)
    g_source_remove_unix_fd (source, self->gone->pdata[i]);
  g_ptr_array_set_size (self->gone, 0);
  for (guint i = 0; i < self->changed->len; i++)
    {
      guint place = place_of (self, g_array_index (self->changed, int, i));

      if (place != NOWHERE && entry_at (self, place)->fd != gaio_monitor_get_glib_fd (mon))
        update_source (source, entry_at (self, place), pollfd_at (self, place));
    }
  g_array_set_size (self->changed, 0);
  return TRUE;
}

/* Keeps what the files that report once have reported to GLib. TRUE if there is any. */
gboolean
gaio_monitor_poll_after_glib_poll (GaioMonitor *mon, GSource *source)
{
  GaioMonitorPoll *self = mon->poll;
  gboolean reported = FALSE;

  if (mon->glib_source != source)
    return FALSE;
  for (guint i = 0; i < self->entries->len; i++)
    {
      Entry *entry = entry_at (self, i);

      if (entry->reports_once && entry->tag != NULL)
        entry->reported |= g_source_query_unix_fd (source, entry->tag);
      reported |= entry->reported != 0 && pollfd_at (self, i)->fd >= 0;
    }
  return reported;
}

void
gaio_monitor_poll_begin_wait (GaioMonitor *mon)
{
  GaioMonitorPoll *self = mon->poll;

  self->n_waits++;
  g_array_set_size (self->polled, 0);
  g_array_append_vals (self->polled, self->pollfds->data, self->pollfds->len);
}

/* -1 us waits for ever. */
static int
poll_fds (struct pollfd *pollfds, guint n, gint64 timeout_us)
{
  gint64 wait_us = MIN (timeout_us, GAIO_MONITOR_LONGEST_WAIT_US);
  struct timespec ts = { .tv_sec = wait_us / G_USEC_PER_SEC,
                         .tv_nsec = wait_us % G_USEC_PER_SEC * 1000 };

  return ppoll (pollfds, n, timeout_us < 0 ? NULL : &ts, NULL);
}

/* Our own fds are level-triggered, so they have to be read. */
static void
drain (int fd)
{
  guint64 value;

  while (read (fd, &value, sizeof value) < 0 && errno == EINTR)
    ;
}

/* The kernel has refused: there is no memory, or there are more fds than the limit, which has been
 * lowered since. Polling only the eventfd takes little of either, and the eventfd ends the wait as
 * always. */
static int
wait_for_retry (GaioMonitor *mon, gint64 timeout_us)
{
  struct pollfd own = { .fd = mon->wake_fd, .events = POLLIN };
  gint64 wait_us = timeout_us < 0 ? GAIO_MONITOR_RETRY_US : MIN (timeout_us, GAIO_MONITOR_RETRY_US);
  int n;

  if (timeout_us == 0)
    {
      g_usleep (PAUSE_US);
      return 0;
    }
  n = poll_fds (&own, 1, wait_us);
  if (n < 0 && errno == EINTR)
    return n;
  if (n < 0)
    g_usleep (wait_us);
  else if ((own.revents & POLLNVAL) != 0)
    {
      errno = EBADF;
      return -1;
    }
  else if (n > 0)
    drain (own.fd);
  return 0;
}

int
gaio_monitor_poll_wait (GaioMonitor *mon, int max_events, gint64 timeout_us)
{
  GArray *polled = mon->poll->polled;
  int n = poll_fds ((struct pollfd *) (void *) polled->data, polled->len, timeout_us);

  return n >= 0 || errno == EINTR ? n : wait_for_retry (mon, timeout_us);
}

/* Appends what @polled reports to mon->events, if it is still of interest. FALSE if somebody has
 * closed one of our fds. */
static gboolean
report (GaioMonitor *mon, const struct pollfd *polled, int *n_events)
{
  GaioMonitorPoll *self = mon->poll;
  guint place = polled->fd >= 0 ? place_of (self, polled->fd) : NOWHERE;
  gboolean own = gaio_monitor_owns (mon, polled->fd);
  struct epoll_event *event = &mon->events[*n_events];
  guint32 reported;

  if (place == NOWHERE || entry_at (self, place)->since > self->n_waits)
    return TRUE;
  reported = polled->revents | entry_at (self, place)->reported;
  if (reported == 0)
    return TRUE;
  entry_at (self, place)->reported = 0;
  event->events = reported;
  event->data.u64 = entry_at (self, place)->key;
  if ((reported & POLLNVAL) != 0)
    event->data.u64 = (guint64) polled->fd << 32 | GAIO_MONITOR_KEY_GONE;
  else if (polled->fd == mon->wake_fd || polled->fd == mon->timer_fd)
    drain (polled->fd);
  ++*n_events;
  return !own || (reported & POLLNVAL) == 0;
}

/* There is no room to report it now, and nobody would report it again: the next wait ends at once.
 */
static void
keep_reported (GaioMonitor *mon, const struct pollfd *polled)
{
  guint place = polled->fd >= 0 ? place_of (mon->poll, polled->fd) : NOWHERE;
  Entry *entry;

  if (place == NOWHERE)
    return;
  entry = entry_at (mon->poll, place);
  if (!entry->reports_once || entry->since > mon->poll->n_waits ||
      (polled->revents | entry->reported) == 0)
    return;
  entry->reported |= polled->revents;
  gaio_monitor_wake (mon->wake_fd);
}

/* If a signal came before what has been reported to GLib could be handed on, the next wait ends at
 * once. */
static int
fail_wait (GaioMonitor *mon, int n)
{
  if (errno == EINTR)
    {
      gaio_monitor_poll_wake_for_reported (mon);
      errno = EINTR;
    }
  return n;
}

int
gaio_monitor_poll_end_wait (GaioMonitor *mon, int n, int max_events)
{
  GaioMonitorPoll *self = mon->poll;
  guint n_polled = self->polled->len, next = self->next;
  int n_events = 0;

  if (n < 0)
    return fail_wait (mon, n);
  for (guint i = 0; i < n_polled; i++)
    {
      guint at = (self->next + 1 + i) % n_polled;
      const struct pollfd *polled = &g_array_index (self->polled, struct pollfd, at);

      if (n_events == max_events)
        keep_reported (mon, polled);
      else if (!report (mon, polled, &n_events))
        {
          errno = EBADF;
          return -1;
        }
      else
        next = at;
    }
  self->next = next;
  return n_events;
}

const GaioMonitorOps gaio_monitor_poll_ops = {
  .name = "poll",
  .lazy = TRUE,
  .open = monitor_poll_open,
  .close = monitor_poll_close,
  .clear = gaio_monitor_poll_clear,
  .after_glib_poll = gaio_monitor_poll_after_glib_poll,
  .add = gaio_monitor_poll_add,
  .modify = gaio_monitor_poll_modify,
  .remove = gaio_monitor_poll_remove,
  .before_glib_poll = gaio_monitor_poll_before_glib_poll,
  .begin_wait = gaio_monitor_poll_begin_wait,
  .wait = gaio_monitor_poll_wait,
  .end_wait = gaio_monitor_poll_end_wait,
};

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Another thread closes a watched fd while its event is on the way, and the number comes back as
 * another file with another handler. The old handler is not called for the new file, the new one
 * hears nothing of the old file, and nothing that happens is lost. */
#include <poll.h>
#include <sys/socket.h>

#include "test-loop.h"
#include "test-waits.h"

/* --- Where the loop is held: whoever gets to that place waits for @go --- */

typedef enum
{
  NOWHERE,
  FETCHED,  /* the kernel has told of the event, and nobody has looked at that yet */
  GATHERED, /* the handler is on the list of those to be called */
} Place;

static struct
{
  atomic_int place; /* where, once */
  gint entered;
  gint go;
} hold;

static void
hold_at (Place place)
{
  int expected = place;

  if (!atomic_compare_exchange_strong (&hold.place, &expected, NOWHERE))
    return;
  eventfd_add (hold.entered);
  eventfd_wait (hold.go);
}

static void
hold_bottom_half (gpointer data)
{
  hold_at (GATHERED);
}

/* These stand in for the C library's. They hold what sleeps, which does so without a lock. */

static void
hold_fetched (int n_events, int timeout, const void *caller)
{
  if (n_events > 0 && timeout != 0)
    hold_at (FETCHED);
}

int
ppoll (struct pollfd *fds, nfds_t n_fds, const struct timespec *timeout, const sigset_t *mask)
{
  int n = NEXT (ppoll) (fds, n_fds, timeout, mask);

  if (n > 0 && timeout == NULL)
    hold_at (FETCHED);
  return n;
}

static gint
hold_poll (GPollFD *fds, guint n_fds, gint timeout)
{
  gint n = g_poll (fds, n_fds, timeout);

  if (n > 0)
    hold_at (FETCHED);
  return n;
}

/* --- A handler, and the file that it was added for --- */

typedef struct
{
  GaioHandler *handler;
  gint peer;     /* of a socket: what is written there can be read */
  guint32 token; /* what can be read from its file, and from no other */
  guint calls;   /* after remove_sync() of its remover */
  gboolean gone; /* from here on it is not to be called */
  atomic_bool signalled;
  atomic_uint reads;
  atomic_uint writes;
  atomic_uint notified;
} Party;

/* Its file is readable once it is signalled, and may be writable before. */
static gboolean
note_ready (gint fd, GIOCondition condition, gpointer data)
{
  Party *party = data;

  g_assert_false (party->gone);
  if ((condition & G_IO_IN) != 0)
    {
      g_assert_true (atomic_load (&party->signalled));
      atomic_fetch_add (&party->reads, 1);
    }
  if ((condition & G_IO_OUT) != 0)
    atomic_fetch_add (&party->writes, 1);
  sched_yield ();
  return G_SOURCE_CONTINUE;
}

/* Its file has had what is in it from the beginning. */
static gboolean
read_token (gint fd, GIOCondition condition, gpointer data)
{
  Party *party = data;
  guint64 value;

  g_assert_false (party->gone);
  g_assert_cmpuint (condition, ==, G_IO_IN);
  g_assert_cmpint (read (fd, &value, sizeof value), ==, sizeof value);
  g_assert_cmpuint (value, ==, party->token);
  party->calls++;
  g_assert_cmpuint (party->calls, ==, 1);
  atomic_fetch_add (&party->reads, 1);
  sched_yield ();
  g_assert_false (party->gone);
  return G_SOURCE_CONTINUE;
}

static void
note_gone (gpointer data)
{
  Party *party = data;

  g_assert_cmpuint (atomic_fetch_add (&party->notified, 1), ==, 0);
}

static void
party_add (Party *party, GaioContext *context, gint fd, GIOCondition condition, GaioFdFunc func)
{
  party->handler = add_fd (context, fd, condition, func, party, note_gone);
}

static void
party_signal (Party *party)
{
  atomic_store (&party->signalled, TRUE);
  g_assert_cmpint (write (party->peer, "", 1), ==, 1);
}

/* A file that can be told from others, which an eventfd cannot: they share one inode. */
static gint
party_open (Party *party)
{
  gint fds[2];

  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
  party->peer = fds[1];
  return fds[0];
}

static void
party_close (Party *party)
{
  gaio_clear_handler (&party->handler);
  close (party->peer);
}

/* Closes @fd and makes the number mean @party's file. */
static void
reopen (gint fd, Party *party)
{
  gint other = party_open (party);

  g_assert_cmpint (dup2 (other, fd), ==, fd);
  close (other);
}

/* --- One event, held at a known place --- */

typedef enum
{
  REMOVED,       /* as one should */
  REMOVED_LATER, /* when the number was another file already */
  LEFT,
} End;

typedef struct
{
  const char *path;
  Place place;
  End end;
  gboolean nested;
} Story;

typedef struct
{
  const Story *story;
  Loop loop;
  gint fd;
  gint other_fd;
  Party old;
  Party fresh;
  Party neighbour; /* whose event is on the way as well */
} Scene;

static void
scene_open (Scene *scene, const Story *story)
{
  gconstpointer nested = story->nested ? scene : NULL;

  *scene = (Scene){ .story = story };
  scene->fd = party_open (&scene->old);
  scene->other_fd = party_open (&scene->neighbour);
  hold.entered = eventfd_new (0);
  hold.go = eventfd_new (0);
  loop_init (&scene->loop, nested);
  if (nested != NULL)
    {
      g_main_context_set_poll_func (scene->loop.main_context, hold_poll);
      attach (scene->loop.context, scene->loop.main_context);
    }
  loop_spawn (&scene->loop);
  party_add (&scene->old, scene->loop.context, scene->fd, G_IO_IN, note_ready);
  party_add (&scene->neighbour, scene->loop.context, scene->other_fd, G_IO_IN, note_ready);
  loop_barrier (&scene->loop);
}

static void
signal_both (gpointer data)
{
  Scene *scene = data;

  /* In this order: the loop may be held at the first. */
  party_signal (&scene->old);
  party_signal (&scene->neighbour);
}

/* On the loop's own thread: the next round gathers both and comes to the bottom half first. */
static void
signal_and_hold (gpointer data)
{
  Scene *scene = data;

  signal_both (scene);
  gaio_context_defer (scene->loop.context, hold_bottom_half, NULL, NULL);
}

static void
hold_the_event (Scene *scene)
{
  atomic_store (&hold.place, scene->story->place);
  if (scene->story->place == GATHERED)
    gaio_context_defer (scene->loop.context, signal_and_hold, scene, NULL);
  else
    signal_both (scene);
  eventfd_wait (hold.entered);
}

static void
replace (Scene *scene)
{
  End end = scene->story->end;

  if (end == REMOVED)
    gaio_handler_remove (scene->old.handler);
  reopen (scene->fd, &scene->fresh);
  if (end == REMOVED_LATER)
    gaio_handler_remove (scene->old.handler);
  party_add (&scene->fresh, scene->loop.context, scene->fd, G_IO_IN | G_IO_OUT, note_ready);
}

static void
scene_close (Scene *scene)
{
  party_close (&scene->old);
  party_close (&scene->fresh);
  party_close (&scene->neighbour);
  loop_barrier (&scene->loop);
  loop_stop (&scene->loop);
  g_assert_cmpuint (scene->old.notified, ==, 1);
  g_assert_cmpuint (scene->fresh.notified, ==, 1);
  g_assert_cmpuint (scene->neighbour.notified, ==, 1);
  loop_free (&scene->loop);
  close (scene->fd);
  close (scene->other_fd);
  close (hold.entered);
  close (hold.go);
}

static void
test_event_on_the_way (gconstpointer data)
{
  Scene scene;

  scene_open (&scene, data);
  hold_the_event (&scene);
  g_assert_cmpuint (atomic_load (&scene.old.reads), ==, 0);
  replace (&scene);
  eventfd_add (hold.go);
  wait_for (atomic_load (&scene.neighbour.reads) > 0);
  wait_for (atomic_load (&scene.fresh.writes) > 0);
  party_signal (&scene.fresh);
  wait_for (atomic_load (&scene.fresh.reads) > 0);
  loop_barrier (&scene.loop);
  g_assert_cmpuint (atomic_load (&scene.old.reads), ==, 0);
  scene_close (&scene);
}

static const Story stories[] = {
  { "/reuse/fetched/removed/alone", FETCHED, REMOVED, FALSE },
  { "/reuse/fetched/removed/nested", FETCHED, REMOVED, TRUE },
  { "/reuse/fetched/removed-later/alone", FETCHED, REMOVED_LATER, FALSE },
  { "/reuse/fetched/removed-later/nested", FETCHED, REMOVED_LATER, TRUE },
  { "/reuse/fetched/left/alone", FETCHED, LEFT, FALSE },
  { "/reuse/fetched/left/nested", FETCHED, LEFT, TRUE },
  { "/reuse/gathered/removed/alone", GATHERED, REMOVED, FALSE },
  { "/reuse/gathered/removed/nested", GATHERED, REMOVED, TRUE },
  { "/reuse/gathered/removed-later/alone", GATHERED, REMOVED_LATER, FALSE },
  { "/reuse/gathered/removed-later/nested", GATHERED, REMOVED_LATER, TRUE },
  { "/reuse/gathered/left/alone", GATHERED, LEFT, FALSE },
  { "/reuse/gathered/left/nested", GATHERED, LEFT, TRUE },
};

/* --- While the epoll set is made anew --- */

/* Just before the kernel is told this of @fd, the number becomes the file of @party. */
static struct
{
  gint fd;
  int operation;
  Party *party;
} swap;

int
epoll_ctl (int set, int operation, int fd, struct epoll_event *event)
{
  if (swap.party != NULL && fd == swap.fd && operation == swap.operation)
    reopen (fd, g_steal_pointer (&swap.party));
  return NEXT (epoll_ctl) (set, operation, fd, event);
}

/* A copy keeps a file in the set that nobody can delete by its number: that takes a new set.
 * Returns the copy. */
static gint
haunt (GaioContext *context)
{
  Party party = { 0 };
  gint fd = party_open (&party);
  gint copy = dup (fd);

  party_add (&party, context, fd, G_IO_IN, note_ready);
  close (fd);
  gaio_clear_handler (&party.handler);
  party_signal (&party);
  gaio_context_iterate (context, 0);
  g_assert_cmpuint (atomic_load (&party.reads), ==, 0);
  close (party.peer);
  return copy;
}

static void
test_while_the_set_is_made_anew (gconstpointer operation)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  Party old = { 0 }, fresh = { 0 };
  gint fd = party_open (&old);
  gint copy;

  party_add (&old, context, fd, G_IO_IN, note_ready);
  swap.fd = fd;
  swap.operation = GPOINTER_TO_INT (operation);
  swap.party = &fresh;
  copy = haunt (context);
  g_assert_null (swap.party);
  g_assert_cmpuint (stat_of (context, "rebuilds"), ==, 1);
  party_signal (&fresh);
  g_assert_false (gaio_context_iterate (context, 0));
  party_add (&fresh, context, fd, G_IO_IN, note_ready);
  g_assert_true (gaio_context_iterate (context, 0));
  g_assert_cmpuint (atomic_load (&fresh.reads), ==, 1);
  g_assert_cmpuint (atomic_load (&old.reads), ==, 0);
  close (copy);
  party_close (&fresh);
  party_close (&old);
  close (fd);
}

/* --- Storms of it --- */

typedef struct _Worker Worker;

struct _Worker
{
  Loop *loop;
  pthread_t thread;
  guint index;
  guint n_rounds;
  Party *parties; /* they stay until the end, so that what comes too late is noticed */
  gint ended;     /* signalled when the rounds that were under way have ended */
  gint fd;
};

/* What a thread closes here another one gets at once. */
static void
remove_and_close (Worker *self, guint i)
{
  Party *party = &self->parties[i];
  gint fd;

  party->token = 1 + i * N_THREADS + self->index;
  fd = eventfd_new (party->token);
  party_add (party, self->loop->context, fd, G_IO_IN, read_token);
  if (i % 4 == 0)
    wait_for (atomic_load (&party->reads) == 1);
  else if (i % 4 == 1)
    sched_yield ();
  gaio_handler_remove_sync (party->handler);
  party->gone = TRUE;
  close (fd);
  gaio_handler_unref (party->handler);
}

static void *
remove_and_close_all (gpointer data)
{
  Worker *self = data;

  for (guint i = 0; i < self->n_rounds; i++)
    remove_and_close (self, i);
  return NULL;
}

/* Waits for the end of a call of the one before: it may have been in flight. */
static void
supersede (Worker *self, Party *before)
{
  gaio_context_defer (self->loop->context, signal_eventfd, GINT_TO_POINTER (self->ended), NULL);
  eventfd_wait (self->ended);
  before->gone = TRUE;
}

/* The one before is ready and left as it is. */
static void
close_only (Worker *self, guint i)
{
  Party *party = &self->parties[i];
  Party *before = i > 0 ? party - 1 : NULL;

  reopen (self->fd, party);
  party_add (party, self->loop->context, self->fd, G_IO_IN, note_ready);
  if (before != NULL)
    supersede (self, before);
  party_signal (party);
  wait_for (atomic_load (&party->reads) > 0);
  if (before != NULL)
    party_close (before);
}

static void *
close_all (gpointer data)
{
  Worker *self = data;

  self->ended = eventfd_new (0);
  self->fd = eventfd_new (0);
  for (guint i = 0; i < self->n_rounds; i++)
    close_only (self, i);
  party_close (&self->parties[self->n_rounds - 1]);
  close (self->fd);
  close (self->ended);
  return NULL;
}

static void
worker_start (Worker *self, Loop *loop, guint index, void *(*work) (void *) )
{
  *self = (Worker){ .loop = loop, .index = index };
  self->n_rounds = MAX (storm_size () / 10 / 2 / N_THREADS, 1);
  self->parties = g_new0 (Party, self->n_rounds);
  self->thread = spawn (work, self);
}

static void
worker_end (Worker *self)
{
  for (guint i = 0; i < self->n_rounds; i++)
    g_assert_cmpuint (atomic_load (&self->parties[i].notified), ==, 1);
  g_free (self->parties);
}

static void
storm (gconstpointer nested, void *(*work) (void *) )
{
  Loop loop;
  Worker workers[N_THREADS];

  loop_start (&loop, nested);
  for (guint i = 0; i < N_THREADS; i++)
    worker_start (&workers[i], &loop, i, work);
  for (guint i = 0; i < N_THREADS; i++)
    join (workers[i].thread);
  loop_barrier (&loop);
  g_assert_cmpuint (stat_of (loop.context, "handlers"), ==, 0);
  loop_stop (&loop);
  for (guint i = 0; i < N_THREADS; i++)
    worker_end (&workers[i]);
  loop_free (&loop);
}

/* Half of a storm is alone, the other nested. */
static void
test_storm_of_removed_ones (gconstpointer nested)
{
  storm (nested, remove_and_close_all);
}

static void
test_storm_of_those_left (gconstpointer nested)
{
  storm (nested, close_all);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  epoll_waited = hold_fetched;
  for (guint i = 0; i < G_N_ELEMENTS (stories); i++)
    g_test_add_data_func (stories[i].path, &stories[i], test_event_on_the_way);
  g_test_add_data_func ("/reuse/set-made-anew/before-it-is-told", GINT_TO_POINTER (EPOLL_CTL_ADD),
                        test_while_the_set_is_made_anew);
  g_test_add_data_func ("/reuse/set-made-anew/once-it-is-told", GINT_TO_POINTER (EPOLL_CTL_MOD),
                        test_while_the_set_is_made_anew);
  add_both ("/reuse/storm/removed", test_storm_of_removed_ones);
  add_both ("/reuse/storm/left", test_storm_of_those_left);
  return g_test_run ();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* What handlers, ready set functions, timers and bottom halves have in common: a callback with user
 * data and a destroy notify, a reference count, and a way to be removed at any time. */

typedef struct _GaioEntry GaioEntry;

typedef enum
{
  GAIO_ENTRY_HANDLER,
  GAIO_ENTRY_MEMBER, /* a handler that belongs to a ready set */
  GAIO_ENTRY_READY_SET_FUNC,
  GAIO_ENTRY_INNER,     /* a main context that is served */
  GAIO_ENTRY_INNER_FD,  /* a handler on an fd of one */
  GAIO_ENTRY_FILE_RING, /* a handler on the fd of the ring of file operations */
  GAIO_ENTRY_TIMER,
  GAIO_ENTRY_BOTTOM_HALF,
} GaioEntryKind;

/* What GaioEntry.state consists of. It is one word because one atomic operation both tells the
 * other thread something and finds out what that thread has said: see gaio_entry_begin(). */
enum
{
  /* somebody wants to hear that the callback has returned; set and cleared under the lock */
  GAIO_ENTRY_END_WANTED = 1,
  /* one for each call of it on the stack of the owner, who adds and subtracts them */
  GAIO_ENTRY_RUNNING = 2,
};

/* The fields that each event touches come last, next to those that a handler adds. */
struct _GaioEntry
{
  GaioRefCount ref_count; /* of the handles, and one of the core until the notify has run */
  atomic_bool removed;
  guint8 kind; /* (const) a GaioEntryKind */
  GDestroyNotify notify;
  GaioCore *core;
  GaioLink siblings; /* (lock) among those of its kind; once removed, among the pending notifies */
  void (*free) (GaioEntry *entry); /* (const) or NULL: g_free() */
  GaioLink link;                   /* in the queue where it waits to be called */
  guint32 stamp;                   /* (lock) gaio_ready_list_get_stamp() of when it was gathered */
  atomic_uint state;               /* GAIO_ENTRY_END_WANTED and GAIO_ENTRY_RUNNING */
  gpointer user_data;
};

/* With one reference for the caller and one for the core. */
void gaio_entry_init (GaioEntry *entry,
                      GaioEntryKind kind,
                      GaioCore *core,
                      gpointer user_data,
                      GDestroyNotify notify);
gpointer gaio_entry_ref (GaioEntry *entry);
void gaio_entry_unref (GaioEntry *entry);

void gaio_entry_destroy (GaioEntry *entry);
void gaio_entry_reject (GaioEntry *entry);
void gaio_entry_run_notifies (GaioCore *core);
void gaio_entry_handle_end (GaioEntry *entry);

/* Marks @entry as not gathered just now. With the lock held, before it can be gathered. */
static inline void
gaio_entry_forget_gathering (GaioEntry *entry)
{
  entry->stamp = gaio_ready_list_get_stamp (&entry->core->ready) - 1;
}

/* A hint that saves the lock. */
static inline gboolean
gaio_entry_has_pending_notifies (GaioCore *core)
{
  return atomic_load_explicit (&core->removal.has_pending_notifies, memory_order_relaxed);
}

static inline gboolean
gaio_entry_is_removed (GaioEntry *entry)
{
  return atomic_load_explicit (&entry->removed, memory_order_acquire);
}

static inline guint
gaio_entry_is_running (GaioEntry *entry)
{
  return atomic_load_explicit (&entry->state, memory_order_acquire) / GAIO_ENTRY_RUNNING;
}

/* Makes gaio_entry_end() return TRUE. With the lock held. In another thread than the owner's this
 * pairs with gaio_entry_begin() and gaio_entry_end(). */
static inline void
gaio_entry_want_end (GaioEntry *entry)
{
  atomic_fetch_or_explicit (&entry->state, GAIO_ENTRY_END_WANTED, memory_order_acq_rel);
}

/* Before the callback, and before reading what decides whether it is called. Pairs with
 * gaio_entry_want_end() in gaio_handler_remove_sync(): if that comes first, we see that the entry
 * is not to be called; otherwise the remover sees that it is running. */
static inline void
gaio_entry_begin (GaioEntry *entry)
{
  atomic_fetch_add_explicit (&entry->state, GAIO_ENTRY_RUNNING, memory_order_acq_rel);
}

/* After the callback. If this returns TRUE, call gaio_entry_handle_end() with the lock held. Pairs
 * with gaio_entry_want_end() in gaio_handler_remove_sync(): if that comes first, we see that the
 * remover waits; otherwise the remover sees that the callback has returned. */
static inline gboolean
gaio_entry_end (GaioEntry *entry)
{
  guint before =
      atomic_fetch_sub_explicit (&entry->state, GAIO_ENTRY_RUNNING, memory_order_acq_rel);

  return (before & GAIO_ENTRY_END_WANTED) != 0;
}

/* Like g_return_val_if_fail(), where the caller has passed a notify that must not be lost. @val may
 * be empty. */
#define gaio_return_val_if_fail_notify(expr, user_data, notify, val)                               \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (G_UNLIKELY (!(expr)))                                                                      \
      {                                                                                            \
        g_return_if_fail_warning (G_LOG_DOMAIN, G_STRFUNC, #expr);                                 \
        if ((notify) != NULL)                                                                      \
          (notify) (user_data);                                                                    \
        return val;                                                                                \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

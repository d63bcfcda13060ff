/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-core-private.h"

/* What handlers, ready set functions, timers and bottom halves have in common: a callback with data
 * and a notify, a reference count, and a way to be removed while anything goes on. */

typedef struct _GaioEntry GaioEntry;

typedef enum
{
  GAIO_ENTRY_HANDLER,
  GAIO_ENTRY_MEMBER, /* a handler that belongs to a ready set */
  GAIO_ENTRY_READY_SET_FUNC,
  GAIO_ENTRY_TIMER,
  GAIO_ENTRY_BOTTOM_HALF,
} GaioEntryKind;

/* What GaioEntry.state consists of. They are one word because one atomic operation on it both tells
 * the other side something and asks it: see gaio_entry_begin(). */
enum
{
  /* gaio_entry_end() has something to tell; set and cleared under the lock. */
  GAIO_ENTRY_END_WANTED = 1,
  /* As many of these as there are calls of it on the stack of the owner, who changes that. */
  GAIO_ENTRY_RUNNING = 2,
};

/* What each event touches comes last, next to what a handler adds. */
struct _GaioEntry
{
  GaioRefCount ref_count; /* of the handles; the core has one until the notify has run */
  atomic_bool removed;
  guint8 kind; /* (const) a GaioEntryKind */
  GDestroyNotify notify;
  GaioCore *core;
  GaioLink siblings; /* (lock) among those of its kind; once removed, among the dead */
  void (*free) (GaioEntry *entry); /* (const) or NULL: g_free() */
  GaioLink link;                   /* in the queue in which it waits to be called */
  guint32 stamp;                   /* (lock) gaio_core_stamp() of when it was gathered */
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

/* It has not been gathered just now. With the lock held, before anybody looks for it. */
static inline void
gaio_entry_forget_gathering (GaioEntry *entry)
{
  entry->stamp = gaio_ready_list_get_stamp (&entry->core->ready) - 1;
}

/* A hint, without the lock. */
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

/* gaio_entry_end() shall say so. With the lock held. In another thread than the owner's it pairs
 * with gaio_entry_begin() and gaio_entry_end(). */
static inline void
gaio_entry_want_end (GaioEntry *entry)
{
  atomic_fetch_or_explicit (&entry->state, GAIO_ENTRY_END_WANTED, memory_order_acq_rel);
}

/* Before the callback, and before what decides whether it is called is read. Pairs with
 * gaio_entry_want_end() in gaio_handler_remove_sync(): if that comes first, we see that it is
 * not to be called, else the remover sees that it is running. */
static inline void
gaio_entry_begin (GaioEntry *entry)
{
  atomic_fetch_add_explicit (&entry->state, GAIO_ENTRY_RUNNING, memory_order_acq_rel);
}

/* After the callback. TRUE: call gaio_entry_handle_end(), with the lock held. Pairs with
 * gaio_entry_want_end() in gaio_handler_remove_sync(): if that comes first, we see that it
 * waits, else the remover sees that the callback has returned. */
static inline gboolean
gaio_entry_end (GaioEntry *entry)
{
  guint before =
      atomic_fetch_sub_explicit (&entry->state, GAIO_ENTRY_RUNNING, memory_order_acq_rel);

  return (before & GAIO_ENTRY_END_WANTED) != 0;
}

/* As g_return_val_if_fail(), where the caller has handed over a notify that must not be lost. @val
 * may be empty. */
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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz-oracle.h"

/* What the main contexts that a context serves should be doing. GLib calls the sources of each;
 * whether it does so in time, never too early and not too late is found out here. Two sources that
 * do nothing stand in each of them to see it being prepared: what nobody tells GLib, as that a
 * number means another file now, need not be known before. */

#define MAX_INNERS 6
#define MAX_INNER_SOURCES 6

typedef enum
{
  INNER_IDLE,
  INNER_FD,
  INNER_TIMER,      /* has GLib wait as long as its prepare() says */
  INNER_READY_TIME, /* 0 or -1 */
  INNER_CUSTOM,     /* its prepare() looks at a variable */
  INNER_N_KINDS
} InnerKind;

struct _Inner
{
  Model *model;
  guint id;
  GMainContext *main_context;
  gboolean plain;      /* made without G_MAIN_CONTEXT_FLAGS_OWNERLESS_POLLING */
  gboolean referenced; /* by the case */
  GObject *owner;
  gboolean goes_with_owner;
  gboolean served;
  gboolean fading;    /* its owner has gone: what is ready still has some turns */
  gboolean gone;      /* nobody keeps it: it is left alone */
  gboolean held;      /* the other thread owns it */
  gint64 retry;       /* when the loop finds at the latest that nobody holds it any more */
  guint iterating;    /* by the case, how deep */
  guint calling;      /* gaio_context_call_in() */
  guint running;      /* callbacks */
  Round *last_round;  /* of the innermost of these */
  Round *ending;      /* where its turn comes to its end, although it is not served any more */
  guint64 called_in;  /* the last round that called one of its sources */
  guint n_waits;      /* rounds that have begun with something ready, and called nothing */
  guint64 n_prepares; /* how often it was */
  GPtrArray *sources; /* that have not been removed */
  GSource *observers[2];
};

typedef struct
{
  Inner *inner;
  InnerKind kind;
  guint id;
  GSource *source;
  gint priority;
  gint fd;
  guint condition;
  gint64 deadline; /* or -1 */
  gint64 interval; /* or 0 */
  gboolean value;  /* READY_TIME and CUSTOM: it is ready */
  gboolean removed;
  gboolean hidden; /* has changed since its inner context was prepared, and nobody was told */
  gboolean ready;  /* at the last look, or some time since */
  guint conditions;
  gboolean flagged; /* GLib may have found it ready, which stays until it is called */
  guint flagged_conditions;
  gboolean last; /* it was ready when the owner of its inner context went */
  guint running;
  guint64 touched;
  guint64 called_in;
  guint64 moved_in; /* in this round its number became that of another file, or of none; or 0 */
} InnerSource;

/* The inner contexts of a model */
void inners_begin (Model *self);
void inners_end (Model *self);
void inners_look (Model *self);
void inners_check_round (Round *round, Model *self);
void inners_end_round (Round *round, Model *self);
void inners_check_sleep (Model *self, gint64 until);
void inners_be_patient (Model *self);
void inners_mark_closed (Model *self);
void inners_number_changed (Model *self, gint number);
guint inners_count (Model *self);
void inners_mark_swept (Model *self);
guint inners_patience (Model *self, guint limit);
gboolean inners_are_quiet (Model *self);
void inners_check_count (Model *self);

/* One of them */
Inner *inner_new (Model *self, GMainContext *main_context, gboolean plain);
Inner *inner_pick (Model *self);
void inner_mark_served (Inner *inner, GObject *owner);
void inner_mark_stopped (Inner *inner);
void inner_mark_ownerless (Inner *inner);
void inner_mark_unreferenced (Inner *inner);
gboolean inner_is_owned_here (const Inner *inner);
gboolean inner_has_hidden (Inner *inner);

/* A source of one */
InnerSource *inner_source_new (Inner *inner, InnerKind kind, gint priority);
InnerSource *inner_source_pick (Model *self);
void inner_source_make (InnerSource *source, GSourceFuncs *funcs, GSourceFunc callback);
InnerSource *inner_source_from (GSource *source);
void inner_source_touch (InnerSource *source);
void inner_source_mark_watched (InnerSource *source);
void inner_source_set (InnerSource *source, gboolean value);
void inner_source_flag (InnerSource *source);
void inner_source_mark_removed (InnerSource *source);
void inner_source_begin_call (InnerSource *source, guint condition);
gboolean inner_source_end_call (InnerSource *source, gboolean keep);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

#include "fuzz-files.h"

/* What the library should be doing, told in the simplest way there is: lists that are walked, and
 * poll(2). The model is told of all that is done, is there in each callback, and says what must,
 * may and must not be. */

#define MODEL_N_MAINS 2

typedef enum
{
  THING_BOTTOM_HALF, /* the first three in the order in which a round serves them */
  THING_HANDLER,
  THING_TIMER,
  THING_MEMBER,   /* a handler of the ready set */
  THING_SET_FUNC, /* the function of the ready set */
  THING_N_KINDS
} ThingKind;

typedef struct _Model Model;
typedef struct _Inner Inner;

/* Anything that has a callback or a notify. */
typedef struct
{
  Model *model;
  ThingKind kind;
  guint id;
  gpointer handle; /* or NULL */
  gboolean removed;
  guint running;
  guint notified;
  guint64 touched;   /* the round in which it, or its file, was last changed */
  guint64 called_in; /* the last round that called it */

  /* Handlers and members */
  FuzzFile *file;   /* what it was added for; NULL once that is closed altogether */
  gboolean is_null; /* that is /dev/null */
  gint fd;
  guint condition;
  gboolean can_recurse;
  gboolean orphan;   /* its number has been closed since */
  gboolean dormant;  /* and somebody else has added that */
  gboolean confused; /* nobody can tell whether a file is its own */
  guint ready;       /* at the last look */
  guint seen;        /* of a member: all that was ready since the last take */
  gboolean expected; /* of a member: the next take must tell of it */

  /* Timers; of those, and bottom halves */
  gint64 deadline;
  gint64 tick; /* what it is called for */
  gint64 interval;
  guint64 due_in; /* the round that has found it due, or 0 */
  guint64 order;  /* of arming, of scheduling */
  gboolean rearmed;
  gboolean skipped; /* due again while it runs */
  gboolean scheduled;
  gboolean urgent;
  gboolean once;
} Thing;

typedef struct _Round Round;

struct _Round
{
  Model *model;
  Round *outer;
  guint64 id;
  gboolean committed; /* it has gathered: what comes now is for the next one */
  guint64 last_order; /* of the bottom halves that it may serve */
  ThingKind last_kind;
  guint limit;
  guint n_calls;
  guint n_own_looks;    /* at the kernel, that the model had it take */
  gboolean interrupted; /* a loop has run inside */
  gboolean visited;     /* something was done from afar, while it slept */
  gboolean alone;       /* without GLib */
  gint main;            /* under which it runs, or -1 */
  guint n_attached;     /* of the model, when it began */
  Inner *iterated;      /* of the model, when it began */
  GThread *thread;
};

struct _Model
{
  const guint8 *data;
  gsize size;
  gsize position;
  guint n_operations;
  gboolean passive; /* callbacks do nothing */
  gboolean is_epoll;

  GaioContext *context;
  gboolean closed;
  GMainContext *mains[MODEL_N_MAINS];
  gint attached;      /* to which of them, or -1 */
  guint n_attached;   /* how often that has changed */
  gboolean lingering; /* a source is still to be destroyed by its owner */
  GaioReadySet *set;
  Thing *set_func;
  guint64 set_func_changed; /* the round in which it was set last */
  gboolean member_removed;  /* and the library may have to be told of it yet */
  guint limit;              /* 0: none that matters */
  gboolean cut;             /* a limit has cut a round off, and changed the order of kinds */
  guint n_futile;           /* rounds in a row that had something to do and called nobody */
  gboolean wake;            /* asked for, and not yet served */

  GPtrArray *files;
  GPtrArray *things; /* that are not finished */
  GQueue finished;   /* the last of those: what is called too late is noticed */
  guint n_things;
  guint64 n_rounds;
  guint64 n_orders;
  Round *round;
  guint depth;
  gboolean afar;      /* the operation comes from another thread */
  gboolean rejecting; /* an addition that fails runs its notify at once */

  GPtrArray *inners;        /* see fuzz-inner-oracle.h */
  GPtrArray *inner_sources; /* all there were */
  Inner *iterated;          /* by the case, further in than any round; or NULL */
  gboolean serves;          /* the context has served some */
};

#define check(model, expr, ...)                                                                    \
  G_STMT_START                                                                                     \
  {                                                                                                \
    if (G_UNLIKELY (!(expr)))                                                                      \
      model_fail (model, #expr, __VA_ARGS__);                                                      \
  }                                                                                                \
  G_STMT_END

void model_fail (Model *self, const char *expr, const char *format, ...)
    G_GNUC_PRINTF (3, 4) G_GNUC_NORETURN;
void model_say (Model *self, const char *format, ...) G_GNUC_PRINTF (2, 3);
guint model_byte (Model *self);

void model_begin (Model *self, const guint8 *data, gsize size);
void model_end (Model *self);
void model_forget_finished (Model *self);
void model_check_state (Model *self);

/* Things */
Thing *thing_new (Model *self, ThingKind kind);
Thing *thing_pick (Model *self, ThingKind kind);
guint thing_count (Model *self, ThingKind kind);
void thing_touch (Thing *thing);
void thing_mark_removed (Thing *thing);
void thing_notified (gpointer data);
void thing_arm (Thing *thing, gint64 deadline);
void thing_schedule (Thing *thing, gboolean urgent);
void thing_cancel (Thing *thing);
void thing_set_condition (Thing *thing, guint condition);

/* Files */
void model_file_added (Model *self, Thing *added);
void model_number_opened (Model *self, const FuzzFile *file, gint number);
void model_number_closed (Model *self, gint number);

/* Callbacks: how they begin and end. In between operations may be done. */
void thing_begin_call (Thing *thing);
gboolean thing_end_call (Thing *thing, gboolean keep);
void thing_check_ready (Thing *thing, gint fd, guint condition);
void model_check_batch (Model *self, const GaioReadyRecord *records, gsize n);

/* Rounds */
void round_begin (Round *round, Model *model, gint main);
void round_look (Model *self);
void round_end (Round *round, Model *self);
void model_commit (Model *self);
void model_mark_closed (Model *self);
gboolean model_has_work (Model *self, gint64 until);
void model_check_sleep (Model *self, gint64 until);
gboolean model_may_have_work (Model *self);
gboolean model_has_things_to_do (Model *self);
gint64 model_next_deadline (Model *self);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <fcntl.h>
#include <string.h>

#include "test-support.h"

/* A context with a temporary file, alone, under GLib or run by gaio_context_run(). */

typedef enum
{
  ALONE,
  NESTED,
  HOSTED,
} How;

typedef struct
{
  How how;
  GaioContext *context;
  GMainContext *main_context;
  GCancellable *stop; /* of HOSTED */
  gint fd;
} Desk;

/* How an operation has ended. */
typedef struct
{
  gssize result;
  GError *error;
  guint calls;
} End;

static inline gint
temporary_file (void)
{
  g_autofree char *name = NULL;
  gint fd = g_file_open_tmp ("gaio-XXXXXX", &name, NULL);

  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (unlink (name), ==, 0);
  return fd;
}

static inline void
desk_begin (Desk *desk, gconstpointer how)
{
  *desk = (Desk){ .how = GPOINTER_TO_INT (how) };
  desk->context = gaio_context_new ();
  desk->fd = temporary_file ();
  desk->stop = g_cancellable_new ();
  if (desk->how == ALONE)
    return;
  desk->main_context = g_main_context_new ();
  g_main_context_push_thread_default (desk->main_context);
  attach (desk->context, desk->main_context);
}

static inline void
desk_end (Desk *desk)
{
  close (desk->fd);
  gaio_context_detach (desk->context);
  g_assert_finalize_object (g_steal_pointer (&desk->context));
  g_object_unref (desk->stop);
  if (desk->main_context == NULL)
    return;
  while (g_main_context_iteration (desk->main_context, FALSE))
    ;
  g_main_context_pop_thread_default (desk->main_context);
  g_main_context_unref (desk->main_context);
}

static inline void
stop_run (gpointer desk)
{
  g_cancellable_cancel (((Desk *) desk)->stop);
}

/* One round at least. */
static inline void
desk_round (Desk *desk, gboolean may_block)
{
  if (desk->how == ALONE)
    gaio_context_iterate (desk->context, may_block ? -1 : 0);
  else if (desk->how == NESTED)
    g_main_context_iteration (desk->main_context, may_block);
  else
    {
      g_cancellable_reset (desk->stop);
      if (!may_block)
        gaio_context_defer (desk->context, stop_run, desk, NULL);
      g_assert_true (gaio_context_run (desk->context, desk->main_context, desk->stop, NULL));
    }
}

static inline void
on_end (gssize result, const GError *error, gpointer data)
{
  End *end = data;

  g_assert_true ((result == -1) == (error != NULL));
  end->result = result;
  end->error = error != NULL ? g_error_copy (error) : NULL;
  end->calls++;
}

/* Rounds until @condition holds. */
#define desk_until(desk, condition)                                                                \
  G_STMT_START                                                                                     \
  {                                                                                                \
    gint64 until_ = g_get_monotonic_time () + GUARD_US;                                            \
    while (!(condition))                                                                           \
      {                                                                                            \
        g_assert_cmpint (g_get_monotonic_time (), <, until_);                                      \
        desk_round ((desk), (desk)->how != HOSTED);                                                \
      }                                                                                            \
  }                                                                                                \
  G_STMT_END

static inline void
drop (GaioIOOp *op)
{
  g_assert_nonnull (op);
  gaio_io_op_unref (op);
}

static inline gssize
read_at (Desk *desk, gint fd, gpointer buffer, gsize count, goffset offset, End *end)
{
  *end = (End){ 0 };
  drop (gaio_context_submit_pread (desk->context, fd, buffer, count, offset, on_end, end, NULL));
  desk_until (desk, end->calls > 0);
  g_assert_cmpuint (end->calls, ==, 1);
  return end->result;
}

static inline gssize
write_at (Desk *desk, gint fd, gconstpointer buffer, gsize count, goffset offset, End *end)
{
  *end = (End){ 0 };
  drop (gaio_context_submit_pwrite (desk->context, fd, buffer, count, offset, on_end, end, NULL));
  desk_until (desk, end->calls > 0);
  g_assert_cmpuint (end->calls, ==, 1);
  return end->result;
}

static inline gssize
sync_file (Desk *desk, gint fd, End *end)
{
  *end = (End){ 0 };
  drop (gaio_context_submit_fsync (desk->context, fd, on_end, end, NULL));
  desk_until (desk, end->calls > 0);
  g_assert_cmpuint (end->calls, ==, 1);
  return end->result;
}

/* Takes over the error of @end, which says @text. */
#define assert_failed(end, domain, code, text)                                                     \
  G_STMT_START                                                                                     \
  {                                                                                                \
    g_assert_error ((end)->error, (domain), (code));                                               \
    g_assert_nonnull (strstr ((end)->error->message, (text)));                                     \
    g_clear_error (&(end)->error);                                                                 \
  }                                                                                                \
  G_STMT_END

static inline void
add_ways (const char *path, GTestDataFunc func)
{
  static const char *names[] = { "alone", "nested", "hosted" };

  for (guint how = ALONE; how <= HOSTED; how++)
    {
      g_autofree char *whole = g_strdup_printf ("%s/%s", path, names[how]);

      g_test_add_data_func (whole, GINT_TO_POINTER (how), func);
    }
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio/gaio-shared.h>

#include <gaio/gaio-context.h>

#include "gaio-registry-private.h"
#include "gaio-source-private.h"

/**
 * SECTION:gaio-shared
 * @title: The shared context
 * @short_description: one context for all libraries in the process
 *
 * All users of a #GMainContext share one #GaioContext, so that it has one pollfd, whoever they are.
 * The shared context is created on first use and lives as long as its source in the #GMainContext.
 * It belongs to nobody: closing or detaching it is a programming error.
 */

/* With the registry locked. */
static GaioContext *
ref_shared (GMainContext *main_context)
{
  GaioContext *context = gaio_registry_lookup (main_context);

  /* A context of the process that this one was forked from is left alone. */
  if (context != NULL && !gaio_core_is_forked (context->core))
    return g_object_ref (context);
  context = gaio_context_new ();
  gaio_source_attach_shared (context, main_context);
  gaio_registry_insert (main_context, context);
  return context;
}

/**
 * gaio_context_ref_for_main_context:
 * @main_context: (nullable): a #GMainContext, or %NULL for the global default
 *
 * Returns the one context that is nested in @main_context for everybody, creating it on first use.
 * This always succeeds: if the kernel refuses an fd now, Gaio tries again later. May be called from
 * any thread.
 *
 * Returns: (transfer full): the shared context
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_ref_for_main_context (GMainContext *main_context)
{
  GaioContext *context;

  if (main_context == NULL)
    main_context = g_main_context_default ();
  gaio_registry_lock ();
  context = ref_shared (main_context);
  gaio_registry_unlock ();
  return context;
}

/**
 * gaio_context_ref_thread_default:
 *
 * Calls gaio_context_ref_for_main_context() with the result of g_main_context_ref_thread_default(),
 * to return the shared context of the calling thread.
 *
 * Returns: (transfer full): the shared context
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_ref_thread_default (void)
{
  g_autoptr (GMainContext) main_context = g_main_context_ref_thread_default ();

  return gaio_context_ref_for_main_context (main_context);
}

/**
 * gaio_context_get_default:
 *
 * Returns the shared context of the global default #GMainContext, and keeps it for the life of the
 * process. May be called from any thread.
 *
 * Returns: (transfer none): the default context
 *
 * Since: 1.0
 */
GaioContext *
gaio_context_get_default (void)
{
  static GaioContext *kept;
  GMainContext *main_context = g_main_context_default ();
  GaioContext *context;

  gaio_registry_lock ();
  context = ref_shared (main_context);
  if (context == kept)
    g_object_unref (context);
  kept = context;
  gaio_registry_unlock ();
  return context;
}

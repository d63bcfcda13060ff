/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

/* Which GaioContext the users of a GMainContext share. Holds no references: a context in it is
 * attached, and removes itself when its source goes. Any thread. */

/* Between these two calls, a context that is looked up stays alive. */
void gaio_registry_lock (void);
void gaio_registry_unlock (void);

GaioContext *gaio_registry_lookup (GMainContext *main_context);
void gaio_registry_insert (GMainContext *main_context, GaioContext *context);

/* Takes the lock itself. */
void gaio_registry_forget (GMainContext *main_context, GaioContext *context);

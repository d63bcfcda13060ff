/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks all peers on a bus for the statistics of their loops, and never waits for any of them. */
#pragma once

#include <gio/gio.h>

typedef struct _TopBus TopBus;
typedef void (*TopBusFunc) (gpointer user_data);

TopBus *top_bus_new (GDBusConnection *connection,
                     guint n_slowest,
                     TopBusFunc on_round_over,
                     gpointer user_data);
void top_bus_free (TopBus *self);
void top_bus_begin_round (TopBus *self);
GPtrArray *top_bus_list_loops (TopBus *self);

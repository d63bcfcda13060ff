/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dbus/dbus.h>
#include <gaio.h>

/* From now on, @context, which has to outlive it, runs @connection in its own thread, until libdbus
 * has freed it. Returns FALSE if it cannot. */
gboolean gaio_dbus_attach (GaioContext *context, DBusConnection *connection);

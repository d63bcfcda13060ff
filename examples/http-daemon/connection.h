/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

#include "server.h"

/* A client, and what libsoup needs for it. */
typedef struct _HttpdConnection HttpdConnection;

void httpd_connection_start (HttpdServer *server, GSocketConnection *stream);
GSocket *httpd_connection_get_socket (HttpdConnection *self);
void httpd_connection_stay (HttpdConnection *self);
void httpd_connection_end (HttpdConnection *self);

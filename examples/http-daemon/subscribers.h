/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>
#include <libsoup/soup.h>

/* The clients that are told events, each in the main context of its connection. */
typedef struct _HttpdSubscribers HttpdSubscribers;

HttpdSubscribers *httpd_subscribers_new (GaioContext *context);
void httpd_subscribers_add (HttpdSubscribers *self, SoupServerMessage *message, GSocket *socket);
void httpd_subscribers_tell (HttpdSubscribers *self, GBytes *event);
guint httpd_subscribers_count (HttpdSubscribers *self);
void httpd_subscribers_free (HttpdSubscribers *self);

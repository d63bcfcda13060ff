/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>
#include <libsoup/soup.h>

/* All clients, and what they get. */
typedef struct _HttpdServer HttpdServer;

struct _HttpdConnection;

typedef struct
{
  guint16 port;                 /* 0 for any */
  gint64 interval_us;           /* between two events */
  gint64 timeout_us;            /* how long a connection may be idle */
  GTlsCertificate *certificate; /* NULL for plain HTTP; the server takes it over */
} HttpdSettings;

HttpdServer *httpd_server_new (const HttpdSettings *settings, GError **error);
char *httpd_server_dup_uri (HttpdServer *self);
void httpd_server_free (HttpdServer *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (HttpdServer, httpd_server_free)

/* For connections. */
GTlsCertificate *httpd_server_get_certificate (HttpdServer *self);
gint64 httpd_server_get_timeout (HttpdServer *self);
void httpd_server_remember (HttpdServer *self, struct _HttpdConnection *connection);
void httpd_server_forget (HttpdServer *self, struct _HttpdConnection *connection);
void httpd_server_count_request (HttpdServer *self);
void httpd_server_answer (HttpdServer *self,
                          struct _HttpdConnection *connection,
                          SoupServerMessage *message,
                          const char *path);

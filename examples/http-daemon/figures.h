/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio.h>

/* What the loop has done, as the page shows it. */
typedef struct _HttpdFigures HttpdFigures;

/* What only the server knows. */
typedef struct
{
  guint n_connections;
  guint n_subscribers;
  guint64 n_requests; /* so far */
} HttpdCounts;

HttpdFigures *httpd_figures_new (GaioContext *context);
GBytes *httpd_figures_next_event (HttpdFigures *self, const HttpdCounts *counts);
void httpd_figures_free (HttpdFigures *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (HttpdFigures, httpd_figures_free)

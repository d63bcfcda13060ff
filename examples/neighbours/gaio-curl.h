/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <curl/curl.h>
#include <gaio.h>

/* Runs any number of transfers in a context, in its own thread. */
typedef struct _GaioCurl GaioCurl;

/* Called once for each transfer, which has been removed and may be added again. CURLOPT_PRIVATE
 * says which one it is. */
typedef void (*GaioCurlFunc) (CURL *easy, CURLcode result, gpointer user_data);

/* Takes @multi over. */
GaioCurl *gaio_curl_new (GaioContext *context, CURLM *multi, GaioCurlFunc func, gpointer user_data);

/* All of these may be called by the function, but not by what libcurl calls, such as the write
 * function of a transfer. Of a transfer that is removed, or left when all is freed, the function is
 * not told. */
CURLMcode gaio_curl_add (GaioCurl *self, CURL *easy);
void gaio_curl_remove (GaioCurl *self, CURL *easy);
void gaio_curl_free (GaioCurl *self);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GaioCurl, gaio_curl_free)

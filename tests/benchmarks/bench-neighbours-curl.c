/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* With GLib as in libcurl's own example for it: a GIOChannel for each socket, and a new watch for
 * each direction. */
#include "../../examples/neighbours/gaio-curl.h"
#include "bench-neighbours.h"

/* Those that are idle have one of their own: for each transfer, libcurl 7.88 looks at all
 * connections of a multi handle. */
typedef struct
{
  CURLM *multi;
  GaioCurl *gaio; /* NULL with GLib */
  guint timeout;  /* with GLib */
} Multi;

typedef struct
{
  CURL *easy;
  Multi *multi;
} CurlPeer;

typedef struct
{
  GIOChannel *channel;
  guint watch;
} Socket;

static Multi multis[2]; /* of the idle, of the active */

static void
on_done (CURL *easy, CURLcode result, gpointer user_data)
{
  gpointer peer = NULL;

  if (result != CURLE_OK)
    g_error ("%s", curl_easy_strerror (result));
  curl_easy_getinfo (easy, CURLINFO_PRIVATE, &peer);
  bench_heard (peer);
}

/* --- With GLib --- */

static void
act (Multi *self, curl_socket_t fd, int ready)
{
  CURLMsg *message;
  int n;

  curl_multi_socket_action (self->multi, fd, ready, &n);
  while ((message = curl_multi_info_read (self->multi, &n)) != NULL)
    {
      CURL *easy = message->easy_handle;
      CURLcode result = message->data.result;

      curl_multi_remove_handle (self->multi, easy);
      on_done (easy, result, NULL);
    }
}

static gboolean
on_ready (GIOChannel *channel, GIOCondition condition, gpointer user_data)
{
  act (user_data, g_io_channel_unix_get_fd (channel),
       ((condition & G_IO_IN) != 0 ? CURL_CSELECT_IN : 0) |
           ((condition & G_IO_OUT) != 0 ? CURL_CSELECT_OUT : 0));
  return G_SOURCE_CONTINUE;
}

static int
on_socket (CURL *easy, curl_socket_t fd, int what, void *user_data, void *socket_data)
{
  Multi *multi = user_data;
  Socket *self = socket_data;

  if (self == NULL)
    {
      self = g_new0 (Socket, 1);
      self->channel = g_io_channel_unix_new (fd);
    }
  g_clear_handle_id (&self->watch, g_source_remove);
  if (what == CURL_POLL_REMOVE)
    {
      g_io_channel_unref (self->channel);
      g_clear_pointer (&self, g_free);
    }
  else
    self->watch = g_io_add_watch (self->channel,
                                  ((what & CURL_POLL_IN) != 0 ? G_IO_IN : 0) |
                                      ((what & CURL_POLL_OUT) != 0 ? G_IO_OUT : 0),
                                  on_ready, multi);
  curl_multi_assign (multi->multi, fd, self);
  return 0;
}

static gboolean
on_time (gpointer user_data)
{
  Multi *self = user_data;

  self->timeout = 0;
  act (self, CURL_SOCKET_TIMEOUT, 0);
  return G_SOURCE_REMOVE;
}

static int
on_timer (CURLM *multi, long delay_ms, void *user_data)
{
  Multi *self = user_data;

  g_clear_handle_id (&self->timeout, g_source_remove);
  if (delay_ms >= 0)
    self->timeout = g_timeout_add (delay_ms, on_time, self);
  return 0;
}

static void
run_with_glib (Multi *self)
{
  curl_multi_setopt (self->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt (self->multi, CURLMOPT_SOCKETDATA, self);
  curl_multi_setopt (self->multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt (self->multi, CURLMOPT_TIMERDATA, self);
}

/* --- With either --- */

static void
ask (gpointer peer)
{
  CurlPeer *self = peer;
  Multi *multi = self->multi;
  CURLMcode code = multi->gaio != NULL ? gaio_curl_add (multi->gaio, self->easy)
                                       : curl_multi_add_handle (multi->multi, self->easy);

  if (code != CURLM_OK)
    g_error ("%s", curl_multi_strerror (code));
}

/* Of those that are idle, it is all that comes. */
static size_t
on_data (char *data, size_t size, size_t n, void *user_data)
{
  if (user_data != NULL)
    bench_heard (user_data);
  return n;
}

static void
open_multi (Multi *self, GaioContext *context)
{
  self->multi = curl_multi_init ();
  if (context == NULL)
    run_with_glib (self);
  else
    self->gaio = gaio_curl_new (context, self->multi, on_done, NULL);
}

static gpointer
open_one (GaioContext *context, const char *address, gboolean active)
{
  CurlPeer *self = g_new (CurlPeer, 1);
  g_autofree char *url =
      g_strdup_printf ("http://127.0.0.1:%s/%s", address, active ? "size/1" : "endless");

  self->multi = &multis[active];
  if (self->multi->multi == NULL)
    open_multi (self->multi, context);
  self->easy = curl_easy_init ();
  curl_easy_setopt (self->easy, CURLOPT_URL, url);
  curl_easy_setopt (self->easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt (self->easy, CURLOPT_TIMEOUT_MS, 3600000L);
  curl_easy_setopt (self->easy, CURLOPT_WRITEFUNCTION, on_data);
  curl_easy_setopt (self->easy, CURLOPT_WRITEDATA, active ? NULL : self);
  curl_easy_setopt (self->easy, CURLOPT_PRIVATE, self);
  ask (self);
  return self;
}

const BenchNeighbour bench_neighbour = {
  .version = "libcurl " BENCH_NEIGHBOUR_VERSION,
  .open = open_one,
  .ask = ask,
};

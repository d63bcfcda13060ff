/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libcurl calls on_socket() and on_timer() to say what it waits for, also from within calls of
 * ours. They do not call it back: what is due at once is due in the next round.
 */
#include "gaio-curl.h"

struct _GaioCurl
{
  GaioContext *context;
  CURLM *multi; /* NULL once freed */
  GaioTimer *timer;
  GHashTable *transfers; /* of CURL */
  GaioCurlFunc func;
  gpointer user_data;
};

/* The function may free @self, add and remove. */
static void
finish (GaioCurl *self, CURL *easy, CURLcode result)
{
  gaio_curl_remove (self, easy);
  self->func (easy, result, self->user_data);
}

/* Of an error of all transfers together, libcurl tells none of them. */
static void
fail_all (GaioCurl *self, CURLcode result)
{
  g_autoptr (GList) list = g_hash_table_get_keys (self->transfers);

  for (GList *l = list; l != NULL && self->multi != NULL; l = l->next)
    if (g_hash_table_contains (self->transfers, l->data))
      finish (self, l->data, result);
}

/* If what libcurl has called, as to write, runs a main loop, libcurl cannot be called: later. */
static void
act (GaioCurl *user_data, curl_socket_t fd, int ready)
{
  GaioCurl *self = g_rc_box_acquire (user_data);
  CURLMsg *message;
  int n;
  CURLMcode code = curl_multi_socket_action (self->multi, fd, ready, &n);

  if (code == CURLM_RECURSIVE_API_CALL)
    gaio_timer_arm (self->timer, 1000);
  else if (code != CURLM_OK)
    fail_all (self, CURLE_ABORTED_BY_CALLBACK);
  while (self->multi != NULL && (message = curl_multi_info_read (self->multi, &n)) != NULL)
    finish (self, message->easy_handle, message->data.result);
  g_rc_box_release (self);
}

/* After an error or a hang-up alone, libcurl looks itself: it may have to read first. */
static gboolean
on_ready (gint fd, GIOCondition condition, gpointer self)
{
  act (self, fd,
       ((condition & G_IO_IN) != 0 ? CURL_CSELECT_IN : 0) |
           ((condition & G_IO_OUT) != 0 ? CURL_CSELECT_OUT : 0));
  return G_SOURCE_CONTINUE;
}

static void
on_time (gpointer self)
{
  act (self, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_timer (CURLM *multi, long delay_ms, void *user_data)
{
  gaio_timer_arm (((GaioCurl *) user_data)->timer,
                  delay_ms < 0 ? -1 : delay_ms * G_GINT64_CONSTANT (1000));
  return 0;
}

/* A socket that is closed is removed first, and a new one of that number comes without a handler.
 * One that waits for nothing has none: else its hang-up would be reported again and again. */
static int
on_socket (CURL *easy, curl_socket_t fd, int what, void *user_data, void *socket_data)
{
  GaioCurl *self = user_data;
  GaioHandler *handler = socket_data;
  GIOCondition condition =
      ((what & CURL_POLL_IN) != 0 ? G_IO_IN : 0) | ((what & CURL_POLL_OUT) != 0 ? G_IO_OUT : 0);
  g_autoptr (GError) error = NULL;

  if (condition == 0)
    gaio_clear_handler (&handler);
  else if (handler == NULL || !gaio_handler_set_condition (handler, condition, NULL))
    {
      gaio_clear_handler (&handler);
      handler = gaio_context_add_fd (self->context, fd, condition, on_ready, self, NULL, &error);
    }
  if (error != NULL)
    g_warning ("libcurl: %s", error->message);
  curl_multi_assign (self->multi, fd, handler);
  return error == NULL ? 0 : -1;
}

GaioCurl *
gaio_curl_new (GaioContext *context, CURLM *multi, GaioCurlFunc func, gpointer user_data)
{
  GaioCurl *self = g_rc_box_new (GaioCurl);

  *self = (GaioCurl){ g_object_ref (context), multi, .func = func, .user_data = user_data };
  self->timer = gaio_context_add_timer (context, on_time, self, NULL);
  self->transfers = g_hash_table_new (NULL, NULL);
  curl_multi_setopt (self->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt (self->multi, CURLMOPT_SOCKETDATA, self);
  curl_multi_setopt (self->multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt (self->multi, CURLMOPT_TIMERDATA, self);
  return self;
}

CURLMcode
gaio_curl_add (GaioCurl *self, CURL *easy)
{
  CURLMcode code = curl_multi_add_handle (self->multi, easy);

  if (code == CURLM_OK)
    g_hash_table_add (self->transfers, easy);
  return code;
}

void
gaio_curl_remove (GaioCurl *self, CURL *easy)
{
  if (g_hash_table_remove (self->transfers, easy))
    curl_multi_remove_handle (self->multi, easy);
}

void
gaio_curl_free (GaioCurl *self)
{
  g_autoptr (GList) list = g_hash_table_get_keys (self->transfers);

  for (GList *l = list; l != NULL; l = l->next)
    gaio_curl_remove (self, l->data);
  curl_multi_cleanup (self->multi);
  self->multi = NULL;
  gaio_clear_timer (&self->timer);
  g_hash_table_unref (self->transfers);
  g_object_unref (self->context);
  g_rc_box_release (self);
}

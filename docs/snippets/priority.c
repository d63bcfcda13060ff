/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

static gboolean
nest_with_priority (GaioContext *context, GMainContext *main_context, int priority, GError **error)
{
  g_autoptr (GSource) source = gaio_context_create_source (context, error);

  if (source == NULL)
    return FALSE;
  g_source_set_priority (source, priority);
  g_source_attach (source, main_context);
  return TRUE;
}

static void
append (gpointer text)
{
  g_string_append (text, "gaio ");
}

static gboolean
append_idle (gpointer text)
{
  g_string_append (text, "idle");
  return G_SOURCE_REMOVE;
}

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GError) error = NULL;

  if (!nest_with_priority (context, NULL, G_PRIORITY_HIGH, &error))
    g_error ("%s", error->message);
  g_idle_add (append_idle, text);
  gaio_context_defer (context, append, text, NULL);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  gaio_context_close (context);
  return g_str_equal (text->str, "gaio idle") ? 0 : 1;
}

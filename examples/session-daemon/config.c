/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The key file. Whatever is wrong in it is told by file, group and key. */
#include "config.h"

#define GROUP "Logbook"
#define COMMANDS "Commands"

static gboolean
check_keys (GKeyFile *file, const char *group, const char *const *known, GError **error)
{
  g_auto (GStrv) keys = g_key_file_get_keys (file, group, NULL, NULL);

  for (guint i = 0; keys != NULL && keys[i] != NULL; i++)
    if (!g_strv_contains (known, keys[i]))
      {
        g_set_error (error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND,
                     "[%s] %s: there is no such key", group, keys[i]);
        return FALSE;
      }
  return TRUE;
}

/* What is mistyped is not what is meant. */
static gboolean
check_names (GKeyFile *file, GError **error)
{
  static const char *const known_groups[] = { GROUP, COMMANDS, NULL };
  static const char *const known_keys[] = { "Socket", "Log", "Sync", "CommandTimeout", NULL };
  g_auto (GStrv) groups = g_key_file_get_groups (file, NULL);

  for (guint i = 0; groups[i] != NULL; i++)
    if (!g_strv_contains (known_groups, groups[i]))
      {
        g_set_error (error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_GROUP_NOT_FOUND,
                     "[%s]: there is no such group", groups[i]);
        return FALSE;
      }
  return check_keys (file, GROUP, known_keys, error);
}

static gboolean
has_key (GKeyFile *file, const char *key)
{
  return g_key_file_has_key (file, GROUP, key, NULL);
}

static gboolean
read_path (GKeyFile *file, const char *key, char **path, GError **error)
{
  g_autofree char *value = NULL;

  if (!has_key (file, key))
    return TRUE;
  value = g_key_file_get_string (file, GROUP, key, error);
  if (value != NULL && g_path_is_absolute (value))
    {
      g_free (*path);
      *path = g_steal_pointer (&value);
      return TRUE;
    }
  if (value != NULL)
    g_set_error (error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                 "“%s” is not an absolute path", value);
  g_prefix_error (error, "[" GROUP "] %s: ", key);
  return FALSE;
}

static gboolean
read_sync (LogbookConfig *self, GKeyFile *file, GError **error)
{
  g_autoptr (GError) cause = NULL;

  if (!has_key (file, "Sync"))
    return TRUE;
  self->sync = g_key_file_get_boolean (file, GROUP, "Sync", &cause);
  if (cause == NULL)
    return TRUE;
  g_propagate_prefixed_error (error, g_steal_pointer (&cause), "[" GROUP "] Sync: ");
  return FALSE;
}

static gboolean
read_timeout (LogbookConfig *self, GKeyFile *file, GError **error)
{
  g_autoptr (GError) cause = NULL;

  if (!has_key (file, "CommandTimeout"))
    return TRUE;
  self->command_seconds = g_key_file_get_integer (file, GROUP, "CommandTimeout", &cause);
  if (cause == NULL && self->command_seconds > 0)
    return TRUE;
  if (cause == NULL)
    g_set_error (&cause, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                 "%d is not a number of seconds", self->command_seconds);
  g_propagate_prefixed_error (error, g_steal_pointer (&cause), "[" GROUP "] CommandTimeout: ");
  return FALSE;
}

static gboolean
read_commands (LogbookConfig *self, GKeyFile *file, GError **error)
{
  g_auto (GStrv) names = g_key_file_get_keys (file, COMMANDS, NULL, NULL);

  for (guint i = 0; names != NULL && names[i] != NULL; i++)
    {
      g_autofree char *line = g_key_file_get_string (file, COMMANDS, names[i], error);
      char **argv;

      if (line == NULL || !g_shell_parse_argv (line, NULL, &argv, error))
        {
          g_prefix_error (error, "[" COMMANDS "] %s: ", names[i]);
          return FALSE;
        }
      g_hash_table_insert (self->commands, g_steal_pointer (&names[i]), argv);
    }
  return TRUE;
}

static gboolean
read_file (LogbookConfig *self, const char *path, GError **error)
{
  g_autoptr (GKeyFile) file = g_key_file_new ();

  if (g_key_file_load_from_file (file, path, G_KEY_FILE_NONE, error) && check_names (file, error) &&
      read_path (file, "Socket", &self->socket_path, error) &&
      read_path (file, "Log", &self->log_path, error) && read_sync (self, file, error) &&
      read_timeout (self, file, error) && read_commands (self, file, error))
    return TRUE;
  g_prefix_error (error, "%s: ", path);
  return FALSE;
}

/* Without a @path, that of the user, who need not have one. */
LogbookConfig *
logbook_config_load (const char *path, GError **error)
{
  g_autoptr (LogbookConfig) self = g_new0 (LogbookConfig, 1);
  g_autofree char *usual = NULL;

  self->socket_path = g_build_filename (g_get_user_runtime_dir (), "gaio-logbook.sock", NULL);
  self->log_path = g_build_filename (g_get_user_data_dir (), "gaio-logbook", "entries", NULL);
  self->sync = TRUE;
  self->command_seconds = 10;
  self->commands =
      g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_strfreev);
  if (path == NULL)
    {
      usual = g_build_filename (g_get_user_config_dir (), "gaio-logbook.conf", NULL);
      if (!g_file_test (usual, G_FILE_TEST_EXISTS))
        return g_steal_pointer (&self);
      path = usual;
    }
  if (!read_file (self, path, error))
    return NULL;
  return g_steal_pointer (&self);
}

void
logbook_config_free (LogbookConfig *self)
{
  g_free (self->socket_path);
  g_free (self->log_path);
  g_hash_table_unref (self->commands);
  g_free (self);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The case that is being tried, and what is told of it. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz-oracle.h"
#include "fuzz.h"

G_GNUC_PRINTF (3, 0)
static void
print_line (Model *self, const char *prefix, const char *format, va_list arguments)
{
  g_autofree char *text = g_strdup_vprintf (format, arguments);

  fprintf (stderr, "%6u %*s%s%s\n", self->n_operations, 2 * self->depth, "", prefix, text);
}

void
model_say (Model *self, const char *format, ...)
{
  va_list arguments;

  if (!fuzz_verbose)
    return;
  va_start (arguments, format);
  print_line (self, self->afar ? "(from afar) " : "", format, arguments);
  va_end (arguments);
}

void
model_fail (Model *self, const char *expr, const char *format, ...)
{
  va_list arguments;

  va_start (arguments, format);
  print_line (self, "FAILED: ", format, arguments);
  va_end (arguments);
  fprintf (stderr, "       %s\n", expr);
  abort ();
}

/* What the case says next; nothing but 0 when it is over. */
guint
model_byte (Model *self)
{
  return self->position < self->size ? self->data[self->position++] : 0;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations on files. */
#include "fuzz-inner-oracle.h"
#include "fuzz-model.h"

#define MAX_FILES 10

FuzzFile *
model_pick_file (Model *self)
{
  return self->files->len > 0 ? self->files->pdata[model_byte (self) % self->files->len] : NULL;
}

void
open_file (Model *self)
{
  FuzzFile *file;

  if (self->files->len >= MAX_FILES)
    return;
  file = fuzz_files_open (self->files, model_byte (self) % FUZZ_N_KINDS);
  if (file == NULL)
    return;
  model_say (self, "opens %s: fd %d", fuzz_file_name (file), file->numbers[0]);
  inners_number_changed (self, file->numbers[0]);
  if (file->other == NULL)
    return;
  model_say (self, "  and fd %d", file->other->numbers[0]);
  inners_number_changed (self, file->other->numbers[0]);
}

void
copy_file (Model *self)
{
  FuzzFile *file = model_pick_file (self);
  gint number = file != NULL ? fuzz_file_copy (file) : -1;

  if (number == -1)
    return;
  model_say (self, "copies %s: fd %d", fuzz_file_name (file), number);
  model_number_opened (self, file, number);
}

void
close_file (Model *self)
{
  FuzzFile *file = model_pick_file (self);
  gint number = file != NULL ? fuzz_file_close (file, model_byte (self)) : -1;

  if (number == -1)
    return;
  model_say (self, "closes fd %d (%s)", number, fuzz_file_name (file));
  model_number_closed (self, number);
  fuzz_files_forget_closed (self->files);
}

void
write_file (Model *self)
{
  FuzzFile *file = model_pick_file (self);
  gboolean until_full = model_byte (self) % 4 == 3;

  if (file == NULL)
    return;
  model_say (self, "%s fd %d", until_full ? "fills" : "writes to", fuzz_file_number (file));
  fuzz_file_write (file, until_full);
}

void
read_file (Model *self)
{
  FuzzFile *file = model_pick_file (self);

  if (file == NULL)
    return;
  model_say (self, "reads fd %d", fuzz_file_number (file));
  fuzz_file_read (file);
}

void
half_close_file (Model *self)
{
  FuzzFile *file = model_pick_file (self);

  if (file == NULL)
    return;
  model_say (self, "half-closes fd %d", fuzz_file_number (file));
  fuzz_file_half_close (file);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz-oracle.h"

/* What the operations of fuzz-model.c share with those in other files. */

#define MODEL_MAX_DEPTH 3

void model_operate_inside (Model *self);
guint model_pick_condition (Model *self);
gint64 model_pick_delay (Model *self);
FuzzFile *model_pick_file (Model *self);
void model_check_failed (Model *self, const GError *error, GaioError expected);
gboolean model_iterate_for (Model *self, gint64 timeout_us);
void model_iterate_main (Model *self, gint which, gboolean may_block);

/* fuzz-model-files.c */
void open_file (Model *self);
void copy_file (Model *self);
void close_file (Model *self);
void write_file (Model *self);
void read_file (Model *self);
void half_close_file (Model *self);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz-oracle.h"

/* Another thread, which does one thing at a time while this one waits. */
gboolean is_other (void);
void do_in_other (Model *self, void (*func) (Model *model));

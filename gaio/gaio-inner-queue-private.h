/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "gaio-inner-private.h"

void gaio_inner_schedule_turn (GaioInner *self);
gboolean gaio_inner_has_to_wait_for_place (GaioInner *self);
void gaio_inner_schedule_next_turn (GaioInner *self);
void gaio_inner_set_deadline (GaioInner *self, gint64 deadline);
void gaio_inner_come_back_in (GaioInner *self, gint64 delay_us);
gboolean gaio_inner_gather (GaioHandler *handler);
gboolean gaio_inner_is_ready_still (GaioInner *self);
void gaio_inner_collect (GaioCore *core);
void gaio_inner_requeue (GaioCore *core);
void gaio_inner_unpark (GaioCore *core);

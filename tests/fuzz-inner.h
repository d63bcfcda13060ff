/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz-oracle.h"

/* Operations on main contexts that the context serves. These may come from any thread. */
void create_inner (Model *self);
void make_inner (Model *self);
void serve_inner (Model *self);
void serve_or_attach_wrongly (Model *self);
void stop_inner (Model *self);
void drop_owner (Model *self);
void drop_inner (Model *self);
void attach_inner_source (Model *self);
void change_inner_source (Model *self);
void destroy_inner_source (Model *self);

/* And these from the thread that runs the loop. */
void hold_inner (Model *self);
void call_in_inner (Model *self);
void iterate_inner (Model *self);
void let_inners_have_turns (Model *self);
void let_inners_be_swept (Model *self);

void let_go_of_all_inners (Model *self);

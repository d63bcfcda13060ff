/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dlfcn.h>

/* The function that the one of a test stands in for. */
#define NEXT(name) ((__typeof__ (&name)) dlsym (RTLD_NEXT, #name))

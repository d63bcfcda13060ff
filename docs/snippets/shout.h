/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once
#include <gaio.h>

GaioHandler *shout_start (const char *path);

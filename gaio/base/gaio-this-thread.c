/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-this-thread-private.h"

_Thread_local char gaio_this_thread_mark;

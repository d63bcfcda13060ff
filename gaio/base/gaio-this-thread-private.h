/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

extern _Thread_local char gaio_this_thread_mark
    __attribute__ ((tls_model ("initial-exec"), visibility ("hidden")));

/* An address that differs in each thread; cheaper than pthread_self(). */
static inline const void *
gaio_this_thread (void)
{
  return &gaio_this_thread_mark;
}

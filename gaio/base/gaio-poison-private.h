/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Marks memory that we keep, but that nobody may touch for now, so that AddressSanitizer, if it is
 * there, treats it like freed memory. */

#if defined(__SANITIZE_ADDRESS__)
#  define GAIO_HAVE_ASAN 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define GAIO_HAVE_ASAN 1
#  endif
#endif

#ifdef GAIO_HAVE_ASAN
#  include <sanitizer/asan_interface.h>
#  define gaio_poison(address, size) ASAN_POISON_MEMORY_REGION ((address), (size))
#  define gaio_unpoison(address, size) ASAN_UNPOISON_MEMORY_REGION ((address), (size))
#else
#  define gaio_poison(address, size)
#  define gaio_unpoison(address, size)
#endif

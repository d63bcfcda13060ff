/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Memory that we keep, and nobody may touch for the time being: AddressSanitizer, if it is there,
 * shall know, as it does of what has been freed. */

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

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#if !defined(GAIO_INSIDE) && !defined(GAIO_COMPILATION)
#  error "Only <gaio.h> can be included directly."
#endif

#include <glib.h>

#ifndef _GAIO_EXTERN
#  define _GAIO_EXTERN __attribute__ ((visibility ("default"))) extern
#endif

/**
 * SECTION:gaio-version
 * @title: Versions
 * @short_description: which version the headers are, and which API may be used
 *
 * Macros that give the version of the headers, and that make the compiler warn about functions that
 * an older version does not have.
 */

/**
 * GAIO_VERSION_1_0:
 *
 * Gaio 1.0, for #GAIO_VERSION_MAX_ALLOWED.
 *
 * Since: 1.0
 */
#define GAIO_VERSION_1_0 (G_ENCODE_VERSION (1, 0))

/**
 * GAIO_VERSION_MAX_ALLOWED:
 *
 * Define this to the newest version whose API the program may use: the compiler warns about newer
 * functions. If it is not defined, all functions are allowed.
 *
 * Since: 1.0
 */
#ifndef GAIO_VERSION_MAX_ALLOWED
#  define GAIO_VERSION_MAX_ALLOWED GAIO_VERSION_1_0
#endif

#if GAIO_VERSION_MAX_ALLOWED < GAIO_VERSION_1_0
#  define GAIO_AVAILABLE_IN_1_0 G_UNAVAILABLE (1, 0) _GAIO_EXTERN
#else
#  define GAIO_AVAILABLE_IN_1_0 _GAIO_EXTERN
#endif

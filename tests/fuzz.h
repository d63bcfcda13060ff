/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

/* What a fuzz target has for those that drive it: libFuzzer, AFL++, fuzz-main.c and soak.c. A case
 * that finds something ends the process. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* Set: cases tell what they do. */
extern gboolean fuzz_verbose;

/* Counted by the target: how much has been tried. */
extern guint64 fuzz_operations;

/* In a case for fuzz-model.c: bytes from here on choose an operation for inner contexts. */
#define FUZZ_FIRST_INNER_BYTE 237

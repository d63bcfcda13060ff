/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* Open files as the kernel sees them: one file may have several numbers, and a number may mean
 * another file later. What is ready is what poll(2) says, which is what the library is held
 * against. */

typedef enum
{
  FUZZ_EVENTFD,
  FUZZ_PIPE,
  FUZZ_SOCKET,
  FUZZ_NULL,   /* always ready, and epoll refuses it */
  FUZZ_MEMORY, /* likewise, with an inode of its own */
  FUZZ_N_KINDS
} FuzzFileKind;

#define FUZZ_N_NUMBERS 2

typedef struct _FuzzFile FuzzFile;

struct _FuzzFile
{
  FuzzFileKind kind;
  gint numbers[FUZZ_N_NUMBERS]; /* -1 where there is none */
  FuzzFile *other;              /* the other end, or NULL */
  guint64 watched;              /* under which numbers below 64 it has been, a bit for each */
};

GPtrArray *fuzz_files_new (void);
FuzzFile *fuzz_files_open (GPtrArray *files, FuzzFileKind kind);
FuzzFile *fuzz_files_lookup (GPtrArray *files, gint number);
gboolean fuzz_files_is_foreign (GPtrArray *files, gint number);
void fuzz_files_forget_closed (GPtrArray *files);

const char *fuzz_file_name (const FuzzFile *file);
gint fuzz_file_number (const FuzzFile *file);
gboolean fuzz_file_is_always_ready (const FuzzFile *file);
guint fuzz_file_poll (const FuzzFile *file);
gint fuzz_file_copy (FuzzFile *file);
gint fuzz_file_close (FuzzFile *file, guint which);
void fuzz_file_write (FuzzFile *file, gboolean until_full);
void fuzz_file_read (FuzzFile *file);
void fuzz_file_half_close (FuzzFile *file);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gaio/gaio-types.h>

/* A batch of readiness records, at most one for each watch. A watch finds its record by a reference
 * that says which batch it is in, so handing out the batch invalidates all references at once. */

typedef struct
{
  guint64 batch; /* 0: has never had a record */
  guint32 index;
} GaioRecordRef;

typedef struct
{
  GaioReadyRecord *items;
  guint length;
  guint capacity;
  guint n_live; /* without those whose condition has been filtered away */
  guint64 batch;
} GaioRecords;

void gaio_records_init (GaioRecords *records);
void gaio_records_clear (GaioRecords *records);
void gaio_records_merge (GaioRecords *records,
                         GaioRecordRef *ref,
                         guint64 token,
                         gint32 fd,
                         guint32 condition);
void gaio_records_filter (GaioRecords *records, const GaioRecordRef *ref, guint32 mask);
GaioReadyRecord *gaio_records_take (GaioRecords *records, guint *length);

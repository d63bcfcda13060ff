/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-records-private.h"

G_STATIC_ASSERT (sizeof (GaioReadyRecord) == 16);

void
gaio_records_init (GaioRecords *records)
{
  *records = (GaioRecords){ .batch = 1 };
}

void
gaio_records_clear (GaioRecords *records)
{
  g_free (records->items);
  gaio_records_init (records);
}

/* Adds @condition to the record of @ref, creating one if this batch has none. */
void
gaio_records_merge (GaioRecords *records,
                    GaioRecordRef *ref,
                    guint64 token,
                    gint32 fd,
                    guint32 condition)
{
  GaioReadyRecord *record;

  if (ref->batch != records->batch)
    {
      if (records->length == records->capacity)
        {
          records->capacity = MAX (16, records->capacity * 2);
          records->items = g_renew (GaioReadyRecord, records->items, records->capacity);
        }
      *ref = (GaioRecordRef){ records->batch, records->length };
      records->items[records->length++] = (GaioReadyRecord){ token, fd, 0 };
    }
  record = &records->items[ref->index];
  records->n_live += record->condition == 0;
  record->condition |= condition;
}

/* From now on, references to records in it find nothing. */
static void
begin_batch (GaioRecords *records)
{
  records->length = records->n_live = 0;
  records->batch++;
}

/* Removes what is not in @mask from the record of @ref, if it has one. When nothing is left, a new
 * batch begins: nobody takes an empty batch, and it must not grow forever. */
void
gaio_records_filter (GaioRecords *records, const GaioRecordRef *ref, guint32 mask)
{
  GaioReadyRecord *record;

  if (ref->batch != records->batch)
    return;
  record = &records->items[ref->index];
  if (record->condition == 0)
    return;
  record->condition &= mask;
  records->n_live -= record->condition == 0;
  if (records->n_live == 0)
    begin_batch (records);
}

/* Hands out the batch, or NULL if it is empty, and begins the next one. */
GaioReadyRecord *
gaio_records_take (GaioRecords *records, guint *length)
{
  GaioReadyRecord *items = records->items;
  guint n = 0;

  for (guint i = 0; i < records->length; i++)
    if (items[i].condition != 0)
      items[n++] = items[i];
  *length = n;
  begin_batch (records);
  if (n == 0)
    return NULL;
  records->items = NULL;
  records->capacity = 0;
  return items;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>

#include "base/gaio-records-private.h"

static void
assert_record (const GaioReadyRecord *record, guint64 token, gint32 fd, guint32 condition)
{
  g_assert_cmpuint (record->token, ==, token);
  g_assert_cmpint (record->fd, ==, fd);
  g_assert_cmpuint (record->condition, ==, condition);
}

static void
assert_empty (GaioRecords *records)
{
  guint length = 99;

  g_assert_cmpuint (records->n_live, ==, 0);
  g_assert_null (gaio_records_take (records, &length));
  g_assert_cmpuint (length, ==, 0);
}

static void
empty_batch_is_null (void)
{
  GaioRecords records;

  gaio_records_init (&records);
  assert_empty (&records);
  assert_empty (&records);
  gaio_records_clear (&records);
}

static void
batch_keeps_its_order (void)
{
  const guint n = 100;
  g_autofree GaioRecordRef *refs = g_new0 (GaioRecordRef, n);
  g_autofree GaioReadyRecord *batch = NULL;
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  for (guint i = 0; i < n; i++)
    gaio_records_merge (&records, &refs[i], G_MAXUINT64 - i, i, G_IO_IN);
  g_assert_cmpuint (records.n_live, ==, n);
  batch = gaio_records_take (&records, &length);
  g_assert_cmpuint (length, ==, n);
  for (guint i = 0; i < n; i++)
    assert_record (&batch[i], G_MAXUINT64 - i, i, G_IO_IN);
  assert_empty (&records);
  gaio_records_clear (&records);
}

static void
watch_has_one_record_in_a_batch (void)
{
  GaioRecordRef a = { 0 };
  GaioRecordRef b = { 0 };
  g_autofree GaioReadyRecord *batch = NULL;
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  gaio_records_merge (&records, &a, 1, 10, G_IO_IN);
  gaio_records_merge (&records, &b, 2, 20, G_IO_IN);
  gaio_records_merge (&records, &a, 1, 10, G_IO_OUT);
  gaio_records_merge (&records, &a, 1, 10, G_IO_OUT);
  g_assert_cmpuint (records.n_live, ==, 2);
  batch = gaio_records_take (&records, &length);
  g_assert_cmpuint (length, ==, 2);
  assert_record (&batch[0], 1, 10, G_IO_IN | G_IO_OUT);
  assert_record (&batch[1], 2, 20, G_IO_IN);
  gaio_records_clear (&records);
}

static void
next_batch_begins_empty (void)
{
  GaioRecordRef ref = { 0 };
  GaioRecords records;

  gaio_records_init (&records);
  for (guint i = 0; i < 5; i++)
    {
      g_autofree GaioReadyRecord *batch = NULL;
      guint length;

      gaio_records_merge (&records, &ref, 1, 10, i % 2 ? G_IO_IN : G_IO_OUT);
      batch = gaio_records_take (&records, &length);
      g_assert_cmpuint (length, ==, 1);
      assert_record (&batch[0], 1, 10, i % 2 ? G_IO_IN : G_IO_OUT);
      /* A reference into the batch that was taken finds nothing in the next. */
      gaio_records_filter (&records, &ref, 0);
      g_assert_cmpuint (records.n_live, ==, 0);
    }
  gaio_records_clear (&records);
}

static void
reference_from_an_older_batch_touches_nobody (void)
{
  GaioRecordRef old = { 0 };
  GaioRecordRef new = { 0 };
  g_autofree GaioReadyRecord *first = NULL;
  g_autofree GaioReadyRecord *second = NULL;
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  gaio_records_merge (&records, &old, 1, 10, G_IO_IN);
  first = gaio_records_take (&records, &length);
  gaio_records_merge (&records, &new, 2, 20, G_IO_IN);
  gaio_records_filter (&records, &old, 0);
  g_assert_cmpuint (records.n_live, ==, 1);
  second = gaio_records_take (&records, &length);
  g_assert_cmpuint (length, ==, 1);
  assert_record (&second[0], 2, 20, G_IO_IN);
  gaio_records_clear (&records);
}

static void
filter_narrows_and_takes_out (void)
{
  GaioRecordRef refs[4] = { 0 };
  g_autofree GaioReadyRecord *batch = NULL;
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  for (guint i = 0; i < 4; i++)
    gaio_records_merge (&records, &refs[i], i, 10 + i, G_IO_IN | G_IO_OUT);
  gaio_records_filter (&records, &refs[0], 0);
  gaio_records_filter (&records, &refs[0], 0);
  gaio_records_filter (&records, &refs[2], G_IO_OUT | G_IO_HUP);
  gaio_records_filter (&records, &refs[3], G_IO_PRI);
  g_assert_cmpuint (records.n_live, ==, 2);
  batch = gaio_records_take (&records, &length);
  g_assert_cmpuint (length, ==, 2);
  assert_record (&batch[0], 1, 11, G_IO_IN | G_IO_OUT);
  assert_record (&batch[1], 2, 12, G_IO_OUT);
  gaio_records_clear (&records);
}

static void
filtered_record_comes_back_when_ready_again (void)
{
  GaioRecordRef ref = { 0 };
  g_autofree GaioReadyRecord *batch = NULL;
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  gaio_records_merge (&records, &ref, 1, 10, G_IO_IN);
  gaio_records_filter (&records, &ref, 0);
  g_assert_cmpuint (records.n_live, ==, 0);
  gaio_records_merge (&records, &ref, 1, 10, G_IO_OUT);
  g_assert_cmpuint (records.n_live, ==, 1);
  batch = gaio_records_take (&records, &length);
  g_assert_cmpuint (length, ==, 1);
  assert_record (&batch[0], 1, 10, G_IO_OUT);
  gaio_records_clear (&records);
}

static void
all_filtered_is_empty (void)
{
  GaioRecordRef refs[3] = { 0 };
  GaioRecords records;

  gaio_records_init (&records);
  for (guint i = 0; i < 3; i++)
    gaio_records_merge (&records, &refs[i], i, i, G_IO_IN);
  for (guint i = 0; i < 3; i++)
    gaio_records_filter (&records, &refs[i], 0);
  assert_empty (&records);
  gaio_records_merge (&records, &refs[1], 1, 1, G_IO_IN);
  g_assert_cmpuint (records.n_live, ==, 1);
  gaio_records_clear (&records);
}

static void
come_and_gone_does_not_pile_up (void)
{
  GaioRecords records;
  guint capacity = 0;

  gaio_records_init (&records);
  for (guint i = 0; i < 1000; i++)
    {
      GaioRecordRef ref = { 0 };

      gaio_records_merge (&records, &ref, i, i, G_IO_IN);
      if (i == 0)
        capacity = records.capacity;
      gaio_records_filter (&records, &ref, 0);
    }
  g_assert_cmpuint (records.capacity, ==, capacity);
  assert_empty (&records);
  gaio_records_clear (&records);
}

static void
never_recorded_has_no_record (void)
{
  GaioRecordRef ready = { 0 };
  GaioRecordRef later = { 0 };
  GaioRecordRef never = { 0 };
  GaioRecords records;
  guint length;

  gaio_records_init (&records);
  gaio_records_merge (&records, &ready, 1, 10, G_IO_IN);
  gaio_records_filter (&records, &never, 0);
  g_assert_cmpuint (records.n_live, ==, 1);
  /* Nor when the number of the batch comes round. */
  records.batch = G_MAXUINT32;
  g_free (gaio_records_take (&records, &length));
  gaio_records_merge (&records, &later, 1, 10, G_IO_IN);
  gaio_records_filter (&records, &never, 0);
  g_assert_cmpuint (records.n_live, ==, 1);
  gaio_records_clear (&records);
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/records/empty-batch-is-null", empty_batch_is_null);
  g_test_add_func ("/records/batch-keeps-its-order", batch_keeps_its_order);
  g_test_add_func ("/records/watch-has-one-record-in-a-batch", watch_has_one_record_in_a_batch);
  g_test_add_func ("/records/next-batch-begins-empty", next_batch_begins_empty);
  g_test_add_func ("/records/reference-from-an-older-batch-touches-nobody",
                   reference_from_an_older_batch_touches_nobody);
  g_test_add_func ("/records/filter-narrows-and-takes-out", filter_narrows_and_takes_out);
  g_test_add_func ("/records/filtered-record-comes-back-when-ready-again",
                   filtered_record_comes_back_when_ready_again);
  g_test_add_func ("/records/all-filtered-is-empty", all_filtered_is_empty);
  g_test_add_func ("/records/come-and-gone-does-not-pile-up", come_and_gone_does_not_pile_up);
  g_test_add_func ("/records/never-recorded-has-no-record", never_recorded_has_no_record);
  return g_test_run ();
}

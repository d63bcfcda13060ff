/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gaio-reports-once-private.h"

#include <linux/magic.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

static gboolean
is_perf_event (int fd)
{
  guint64 id;

  return ioctl (fd, PERF_EVENT_IOC_ID, &id) == 0;
}

/* Whether the file's poll operation reports only once that it is ready, and is no longer ready
 * after the report. This is so for a mount table, a kernel setting, a pressure trigger and a perf
 * event. */
gboolean
gaio_reports_once (int fd)
{
  struct statfs fs;

  if (fstatfs (fd, &fs) != 0)
    return FALSE;
  switch (fs.f_type)
    {
    case PROC_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
      return TRUE;
    case ANON_INODE_FS_MAGIC:
      return is_perf_event (fd);
    default:
      return FALSE;
    }
}

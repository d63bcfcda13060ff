/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* without SYSTEM-CALL... -- PROGRAM ARGUMENT...: runs the program on a kernel that does not have
 * these system calls. */

static const struct
{
  const char *name;
  unsigned int number;
} known[] = {
  { "epoll_create1", SYS_epoll_create1 },
  { "epoll_pwait2", SYS_epoll_pwait2 },
  { "io_uring_enter", SYS_io_uring_enter },
  { "io_uring_setup", SYS_io_uring_setup },
  { "madvise", SYS_madvise },
  { "pidfd_open", SYS_pidfd_open },
  { "timerfd_create", SYS_timerfd_create },
};

#define N_KNOWN (sizeof known / sizeof *known)

/* Filters add up. */
static int
take_away (unsigned int number)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof *code, code };

  return prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int
take_away_by_name (const char *name)
{
  for (unsigned int i = 0; i < N_KNOWN; i++)
    if (strcmp (known[i].name, name) == 0)
      return take_away (known[i].number);
  errno = ENOENT;
  return -1;
}

int
main (int argc, char **argv)
{
  int i = 1;

  prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  for (; i < argc && strcmp (argv[i], "--") != 0; i++)
    if (take_away_by_name (argv[i]) != 0)
      {
        /* TAP, for where there are no filters. */
        printf ("1..0 # SKIP cannot do without %s: %s\n", argv[i], strerror (errno));
        return errno == ENOENT;
      }
  if (i + 1 >= argc)
    return 2;
  execvp (argv[i + 1], argv + i + 1);
  perror (argv[i + 1]);
  return 127;
}

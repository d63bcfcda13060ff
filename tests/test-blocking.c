/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a thread does that has to wait for another: it sleeps, so that the other may run, and needs
 * nothing of the kernel that a sandbox may forbid. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "test-loop.h"
#include "test-waits.h"

/* --- What stands in for the C library's --- */

/* More than this is spinning: who spins would not let the other run, if that has less priority. */
#define MANY_YIELDS 1000

static atomic_uint n_yields; /* of the library */

/* Called once, in the midst of the library: under the lock, before the write, after the wait. */
static _Atomic (GThreadFunc) in_fcntl;
static _Atomic (GThreadFunc) in_write;
static _Atomic (GThreadFunc) in_epoll_wait;

static gboolean
is_library (const void *address)
{
  Dl_info caller = { 0 }, library = { 0 };

  return dladdr (address, &caller) != 0 &&
         dladdr (dlsym (RTLD_DEFAULT, "gaio_context_new"), &library) != 0 &&
         caller.dli_fbase == library.dli_fbase;
}

static void
call_back_once (_Atomic (GThreadFunc) *func, const void *caller, gpointer data)
{
  GThreadFunc wanted = atomic_load (func);

  if (wanted != NULL && is_library (caller) && atomic_compare_exchange_strong (func, &wanted, NULL))
    wanted (data);
}

int
sched_yield (void)
{
  if (is_library (__builtin_return_address (0)) && atomic_fetch_add (&n_yields, 1) >= MANY_YIELDS)
    g_usleep (1000);
  return NEXT (sched_yield) ();
}

int
fcntl (int fd, int command, ...)
{
  va_list list;
  void *argument;

  va_start (list, command);
  argument = va_arg (list, void *);
  va_end (list);
  call_back_once (&in_fcntl, __builtin_return_address (0), NULL);
  return NEXT (fcntl) (fd, command, argument);
}

ssize_t
write (int fd, const void *buffer, size_t size)
{
  call_back_once (&in_write, __builtin_return_address (0), GINT_TO_POINTER (fd));
  return NEXT (write) (fd, buffer, size);
}

static void
call_back_after_wait (int n_events, int timeout, const void *caller)
{
  if (timeout != 0)
    call_back_once (&in_epoll_wait, caller, NULL);
}

/* --- The other thread --- */

static GaioContext *context;
static gint held;         /* an eventfd: what the other has to wait for has begun */
static atomic_int waiter; /* the thread that has to wait, from when it does so */

/* Until it sleeps, as it should, or spins. */
static gpointer
let_it_wait (gpointer data)
{
  eventfd_add (held);
  wait_for (atomic_load (&waiter) != 0);
  wait_for (thread_sleeps (atomic_load (&waiter)) || atomic_load (&n_yields) > 0);
  return NULL;
}

static void
begin (void)
{
  context = gaio_context_new ();
  held = eventfd_new (0);
  atomic_store (&n_yields, 0);
  atomic_store (&waiter, 0);
}

static void
end (void)
{
  g_assert_finalize_object (g_steal_pointer (&context));
  close (held);
  g_assert_cmpuint (atomic_load (&n_yields), ==, 0);
}

/* --- The lock --- */

static gboolean
take_priority (void)
{
  struct sched_param param = { .sched_priority = 1 };

  return pthread_setschedparam (pthread_self (), SCHED_FIFO, &param) == 0;
}

static void *
defer_with_priority (void *data)
{
  gboolean allowed = data == NULL || take_priority ();

  eventfd_wait (held);
  atomic_store (&waiter, syscall (SYS_gettid));
  gaio_context_defer (context, count_atomic, g_object_get_data (G_OBJECT (context), "count"), NULL);
  return GINT_TO_POINTER (allowed);
}

/* So that the one can run only if the other does not. */
static void
bind_to_one_processor (cpu_set_t *before)
{
  cpu_set_t one;

  g_assert_cmpint (sched_getaffinity (0, sizeof *before, before), ==, 0);
  CPU_ZERO (&one);
  for (gint cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT (&one) == 0; cpu++)
    if (CPU_ISSET (cpu, before))
      CPU_SET (cpu, &one);
  g_assert_cmpint (sched_setaffinity (0, sizeof one, &one), ==, 0);
}

/* The maker of the context is under the lock when another thread wants it. */
static void
test_lock (gconstpointer with_priority)
{
  gint fd = eventfd_new (0);
  atomic_uint count = 0;
  GaioHandler *handler;
  cpu_set_t processors;
  pthread_t thread;
  void *allowed;

  begin ();
  g_object_set_data (G_OBJECT (context), "count", &count);
  bind_to_one_processor (&processors);
  atomic_store (&in_fcntl, let_it_wait);
  thread = spawn (defer_with_priority, (gpointer) with_priority);
  handler = add_fd (context, fd, G_IO_IN, never_fd, NULL, NULL);
  pthread_join (thread, &allowed);
  sched_setaffinity (0, sizeof processors, &processors);
  g_assert_null (atomic_load (&in_fcntl));
  iterate_until (context, atomic_load (&count) == 1);
  gaio_clear_handler (&handler);
  end ();
  close (fd);
  if (!GPOINTER_TO_INT (allowed))
    g_test_skip ("this process may have no real-time priority");
}

/* --- The eventfd --- */

static atomic_int wake_fd;
static atomic_bool may_write;

static gpointer
stop_before_write (gpointer fd)
{
  atomic_store (&wake_fd, GPOINTER_TO_INT (fd));
  wait_for (atomic_load (&may_write) || atomic_load (&n_yields) > 0);
  return NULL;
}

static void *
defer_never (void *data)
{
  gaio_context_defer (context, never_once, NULL, NULL);
  return NULL;
}

/* GLib is about to sleep, so that who schedules something writes. */
static void
begin_sleep (GMainContext *main_context)
{
  gint priority;

  attach (context, main_context);
  g_main_context_iteration (main_context, FALSE);
  g_assert_true (g_main_context_acquire (main_context));
  g_main_context_prepare (main_context, &priority);
}

/* Another thread is about to write to it. Its number stays taken until then: what came under it
 * would be written to. */
static void
test_closing_leaves_eventfd_to_its_writer (void)
{
  GMainContext *main_context = g_main_context_new ();
  pthread_t thread;

  begin ();
  atomic_store (&wake_fd, -1);
  atomic_store (&may_write, false);
  begin_sleep (main_context);
  atomic_store (&in_write, stop_before_write);
  thread = spawn (defer_never, NULL);
  wait_for (atomic_load (&wake_fd) >= 0);
  gaio_context_close (context);
  g_assert_cmpint (fcntl (atomic_load (&wake_fd), F_GETFD), !=, -1);
  atomic_store (&may_write, true);
  join (thread);
  g_assert_cmpint (fcntl (atomic_load (&wake_fd), F_GETFD), ==, -1);
  g_main_context_release (main_context);
  g_main_context_unref (main_context);
  end ();
}

/* --- The main loop that waits for both --- */

typedef struct
{
  GMainContext *main_context;
  GCancellable *cancellable;
  atomic_int tid;
} Host;

static void *
run_host (void *data)
{
  Host *host = data;
  g_autoptr (GError) error = NULL;

  atomic_store (&host->tid, syscall (SYS_gettid));
  gaio_context_run (context, host->main_context, host->cancellable, &error);
  g_assert_no_error (error);
  return NULL;
}

/* It has been woken, and does not come back before the other waits for it. */
static void
test_detaching_waits_for_the_host (void)
{
  Host host = { .main_context = g_main_context_new (), .cancellable = g_cancellable_new () };
  pthread_t thread;

  begin ();
  attach (context, host.main_context);
  thread = spawn (run_host, &host);
  wait_for (atomic_load (&host.tid) != 0 && thread_sleeps (atomic_load (&host.tid)));
  atomic_store (&in_epoll_wait, let_it_wait);
  atomic_store (&waiter, syscall (SYS_gettid));
  gaio_context_detach (context);
  g_cancellable_cancel (host.cancellable);
  join (thread);
  atomic_store (&in_epoll_wait, NULL);
  g_object_unref (host.cancellable);
  g_main_context_unref (host.main_context);
  end ();
}

/* --- A sandbox --- */

/* What it does to who calls membarrier(2). */
#define REFUSE (SECCOMP_RET_ERRNO | EPERM)
#define KILL SECCOMP_RET_KILL_PROCESS

/* From now on, for this thread and those that it makes. */
static gboolean
enter_sandbox (guint32 action)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, action),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { G_N_ELEMENTS (code), code };

  return prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

#define MAX_TIMERS 64

/* Two threads add timers to one new context after the other, at the same moment. */
typedef struct
{
  GaioContext *context;
  guint n_contexts;
  atomic_uint begun; /* contexts that are there */
  atomic_uint ended; /* to which the other has added its timer */
  GaioTimer *others; /* the timer of the other */
  guint n_called;
} Adders;

/* As soon as can be, where there is a processor for each. */
static void
meet (atomic_uint *counter, guint n)
{
  for (guint i = 0; i < 1000; i++)
    if (atomic_load (counter) == n)
      return;
  wait_for (atomic_load (counter) == n);
}

static GaioTimer *
add_timer (Adders *adders)
{
  GaioTimer *timer = gaio_context_add_timer (adders->context, count_once, &adders->n_called, NULL);

  gaio_timer_arm_at (timer, 0);
  return timer;
}

static void *
add_as_other (void *data)
{
  Adders *adders = data;

  for (guint n = 1; n <= adders->n_contexts; n++)
    {
      meet (&adders->begun, n);
      adders->others = add_timer (adders);
      atomic_store (&adders->ended, n);
    }
  return NULL;
}

static void
add_as_maker (Adders *adders, guint n)
{
  GaioTimer *timers[MAX_TIMERS];
  guint n_timers = 0;

  adders->context = gaio_context_new ();
  adders->n_called = 0;
  atomic_store (&adders->begun, n);
  while (n_timers < MAX_TIMERS && atomic_load (&adders->ended) != n)
    timers[n_timers++] = add_timer (adders);
  meet (&adders->ended, n);
  while (gaio_context_iterate (adders->context, 0))
    ;
  g_assert_cmpuint (adders->n_called, ==, n_timers + 1);
  gaio_clear_timer (&adders->others);
  for (guint i = 0; i < n_timers; i++)
    gaio_clear_timer (&timers[i]);
  g_assert_finalize_object (g_steal_pointer (&adders->context));
}

static void
add_in_sandbox (gconstpointer unused)
{
  Adders adders = { .n_contexts = storm_size () / 40 };
  pthread_t other = spawn (add_as_other, &adders);

  for (guint n = 1; n <= adders.n_contexts; n++)
    add_as_maker (&adders, n);
  join (other);
}

/* In a process of its own, which it cannot leave. */
static void
run_in_sandbox (guint32 action, GTestDataFunc test)
{
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
    }
  else if (enter_sandbox (action))
    test (NULL);
}

static void
test_sandbox (gconstpointer action)
{
  run_in_sandbox (GPOINTER_TO_UINT (action), add_in_sandbox);
}

/* Threads that have to meet need luck; here one is under the lock for certain. */
static void
test_lock_in_sandbox (void)
{
  run_in_sandbox (REFUSE, test_lock);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  epoll_waited = call_back_after_wait;

  g_test_add_data_func ("/blocking/lock-is-waited-for-asleep", NULL, test_lock);
  g_test_add_data_func ("/blocking/lock-is-waited-for-asleep/real-time", "", test_lock);
  g_test_add_func ("/blocking/lock-is-waited-for-asleep/in-a-sandbox", test_lock_in_sandbox);
  g_test_add_func ("/blocking/closing-leaves-eventfd-to-its-writer",
                   test_closing_leaves_eventfd_to_its_writer);
  g_test_add_func ("/blocking/detaching-waits-for-the-host-asleep",
                   test_detaching_waits_for_the_host);
  g_test_add_data_func ("/blocking/no-timer-is-lost-in-a-sandbox/refusing",
                        GUINT_TO_POINTER (REFUSE), test_sandbox);
  g_test_add_data_func ("/blocking/no-timer-is-lost-in-a-sandbox/killing", GUINT_TO_POINTER (KILL),
                        test_sandbox);

  return g_test_run ();
}

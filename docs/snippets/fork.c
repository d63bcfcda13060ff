/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <gaio.h>
#include <sys/wait.h>
#include <unistd.h>

static void
set (gpointer flag)
{
  *(gboolean *) flag = TRUE;
}

static void
sleep_in (GaioContext *context)
{
  gboolean fired = FALSE;
  GaioTimer *timer = gaio_context_add_timer (context, set, &fired, NULL);

  gaio_timer_arm (timer, 1000);
  while (!fired)
    gaio_context_iterate (context, -1);
  gaio_clear_timer (&timer);
}

/* Returns its exit status. */
static int
run_child (GaioContext *inherited)
{
  g_autoptr (GaioContext) own = gaio_context_new ();
  g_autoptr (GError) error = NULL;

  /* The parent's is of no use here. */
  if (gaio_context_attach (inherited, NULL, &error) ||
      !g_error_matches (error, GAIO_ERROR, GAIO_ERROR_FORKED))
    return 1;
  sleep_in (own);
  return 0;
}

int
main (void)
{
  g_autoptr (GaioContext) context = gaio_context_new ();
  int status = 1;
  pid_t child;

  sleep_in (context);
  child = fork ();
  if (child == 0)
    _exit (run_child (context));
  return waitpid (child, &status, 0) == child && status == 0 ? 0 : 1;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "top-screen.h"

#include "top-text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l" /* the other screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[2K"
#define CLEAR_BELOW "\033[J"
#define REVERSE "\033[7m"
#define PLAIN "\033[m"

/* All signals that end a program and can be caught. */
static const int endings[] = { SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGABRT,
                               SIGBUS, SIGSEGV, SIGFPE,  SIGILL,  SIGTRAP };

/* For signal handlers, which get no argument. */
static struct
{
  gboolean entered;
  gboolean have_modes;
  struct termios modes;
  struct sigaction before[G_N_ELEMENTS (endings)];
  GaioNotifier *on_change;
} screen;

gboolean
top_screen_is_possible (void)
{
  return isatty (STDOUT_FILENO) && g_strcmp0 (g_getenv ("TERM"), "dumb") != 0;
}

/* Like write(2), but writes everything. */
gboolean
top_write (const char *text, gsize length)
{
  while (length > 0)
    {
      struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
      gssize n = write (STDOUT_FILENO, text, length);

      if (n >= 0)
        {
          text += n;
          length -= n;
        }
      else if (errno == EAGAIN)
        poll (&out, 1, -1);
      else if (errno != EINTR)
        return FALSE;
    }
  return TRUE;
}

/* Both may run in a signal handler. */

static void
switch_to_screen (void)
{
  struct termios modes = screen.modes;

  modes.c_lflag &= ~(ICANON | ECHO);
  if (screen.have_modes)
    tcsetattr (STDIN_FILENO, TCSANOW, &modes);
  top_write (ENTER, strlen (ENTER));
}

static void
switch_back (void)
{
  top_write (LEAVE, strlen (LEAVE));
  if (screen.have_modes)
    tcsetattr (STDIN_FILENO, TCSANOW, &screen.modes);
}

/* Signals */

static void
on_ending (int number)
{
  switch_back ();
  for (guint i = 0; i < G_N_ELEMENTS (endings); i++)
    if (endings[i] == number)
      sigaction (number, &screen.before[i], NULL);
  /* The signal arrives when this returns, and ends the program. */
  raise (number);
}

static void on_suspend (int number);

static void
handle_suspend (void)
{
  sigaction (SIGTSTP, &(struct sigaction){ .sa_handler = on_suspend, .sa_flags = SA_RESTART },
             NULL);
}

/* Ctrl-Z. The process stops, and continues, in here. */
static void
on_suspend (int number)
{
  int saved_errno = errno;
  sigset_t set;

  switch_back ();
  sigaction (SIGTSTP, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
  raise (SIGTSTP);
  sigemptyset (&set);
  sigaddset (&set, SIGTSTP);
  sigprocmask (SIG_UNBLOCK, &set, NULL);
  handle_suspend ();
  switch_to_screen ();
  gaio_notifier_set (screen.on_change);
  errno = saved_errno;
}

static void
on_resize (int number)
{
  gaio_notifier_set (screen.on_change);
}

static void
handle_signals (void)
{
  for (guint i = 0; i < G_N_ELEMENTS (endings); i++)
    {
      sigaction (endings[i], &(struct sigaction){ .sa_handler = on_ending }, &screen.before[i]);
      /* As nohup wants it. */
      if (screen.before[i].sa_handler == SIG_IGN)
        sigaction (endings[i], &screen.before[i], NULL);
    }
  handle_suspend ();
  sigaction (SIGWINCH, &(struct sigaction){ .sa_handler = on_resize, .sa_flags = SA_RESTART },
             NULL);
}

/* The notifier is set when the screen has to be drawn again. */
void
top_screen_enter (GaioNotifier *on_change)
{
  screen.on_change = gaio_notifier_ref (on_change);
  screen.have_modes = tcgetattr (STDIN_FILENO, &screen.modes) == 0;
  handle_signals ();
  screen.entered = TRUE;
  switch_to_screen ();
}

void
top_screen_leave (void)
{
  if (!screen.entered)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (endings); i++)
    sigaction (endings[i], &screen.before[i], NULL);
  sigaction (SIGTSTP, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
  sigaction (SIGWINCH, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
  switch_back ();
  screen.entered = FALSE;
  g_clear_pointer (&screen.on_change, gaio_notifier_unref);
}

/* Drawing */

static void
get_size (guint *columns, guint *lines)
{
  struct winsize size;

  *columns = 80;
  *lines = 24;
  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0)
    {
      *columns = size.ws_col;
      *lines = size.ws_row;
    }
}

/* Text that does not fit is cut off. The first line is the heading. */
gboolean
top_screen_draw (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  g_autoptr (GString) out = g_string_new (HOME);
  guint width, height;

  get_size (&width, &height);
  for (guint i = 0; i < height && lines[i] != NULL; i++)
    {
      int length = top_text_fit (lines[i], width);

      g_string_append_printf (out, "%s%s%s%.*s%s", i > 0 ? "\n" : "", CLEAR_LINE,
                              i == 0 ? REVERSE : "", length, lines[i], PLAIN);
    }
  /* Erasing begins at the cursor, which may be on the last character. */
  if (g_strv_length (lines) < height)
    g_string_append (out, "\n" CLEAR_BELOW);
  return top_write (out->str, out->len);
}

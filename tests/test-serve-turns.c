/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What comes between the turns of an inner context: calls, iterations and owners. */
#include "test-serve.h"

typedef struct
{
  Stage *stage;
  GString *log;
  guint calls;
} Story;

static gboolean
run_a_round (gpointer data)
{
  Story *story = data;

  story->calls++;
  gaio_context_iterate (story->stage->context, 0);
  return G_SOURCE_CONTINUE;
}

/* The round finds the source running, and nobody says when it is not any more. */
static void
test_iteration_outlasts_a_round (void)
{
  Stage stage;
  Story story = { &stage };

  stage_begin (&stage, NULL);
  settle (&stage);
  attach_idle (stage.inner, 0, run_a_round, &story);
  g_main_context_iteration (stage.inner, FALSE);
  g_assert_cmpuint (story.calls, ==, 1);
  until (&stage, story.calls == 3);
  stage_end (&stage);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);

  g_test_add_func ("/serve-turns/iteration-outlasts-a-round", test_iteration_outlasts_a_round);

  return g_test_run ();
}

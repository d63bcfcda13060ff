// SPDX-License-Identifier: LGPL-2.1-or-later
// The library as Vala sees it: that it compiles is half of the test.

void test_callbacks () {
	var context = new Gaio.Context ();
	string[] calls = {};
	var timer = context.add_timer (() => { calls += "timer"; });
	timer.arm (0);
	context.defer (() => { calls += "deferred"; });
	while (calls.length < 2)
		context.iterate (-1);
	assert_cmpstr (string.joinv (" ", calls), EQ, "deferred timer");
}

void test_fd () {
	Gaio.Handler? handler = null;
	int[] ends = new int[2];
	try {
		Unix.open_pipe (ends, 0);
		handler = Gaio.Context.get_default ().add_fd (ends[0], IN, (fd, condition) => {
			return Source.REMOVE;
		});
	} catch (Error error) {
		Test.message ("%s", error.message);
		Test.fail ();
		return;
	}
	FileUtils.close (ends[1]);
	while (!handler.is_removed ())
		MainContext.default ().iteration (true);
	FileUtils.close (ends[0]);
}

void test_error () {
	try {
		new Gaio.Context ().add_fd (-1, IN, (fd, condition) => Source.CONTINUE);
		Test.fail ();
	} catch (Gaio.Error.BAD_FD error) {
		Test.message ("%s", error.message);
	} catch (Error error) {
		Test.fail ();
	}
}

void test_notifier () {
	var context = new Gaio.Context ();
	int calls = 0;
	try {
		var notifier = new Gaio.Notifier ();
		var handler = context.add_notifier (notifier, () => { calls++; });
		notifier.set ();
		context.iterate (-1);
		handler.remove ();
	} catch (Error error) {
		Test.message ("%s", error.message);
	}
	assert_cmpint (calls, EQ, 1);
}

void test_child () {
	var context = new Gaio.Context ();
	int status = -1;
	try {
		Pid child;
		Process.spawn_async (null, {"false"}, null,
			SpawnFlags.SEARCH_PATH | SpawnFlags.DO_NOT_REAP_CHILD, null, out child);
		var handler = context.add_child (child, (pid, wait_status) => {
			status = Process.exit_status (wait_status);
		});
		while (!handler.is_removed ())
			context.iterate (-1);
	} catch (Gaio.Error.NOT_SUPPORTED error) {
		Test.skip (error.message);
		return;
	} catch (Error error) {
		Test.message ("%s", error.message);
	}
	assert_cmpint (status, EQ, 1);
}

void test_thread () {
	int calls = 0;
	try {
		var thread = new Gaio.Thread ("vala");
		thread.get_context ().defer (() => { calls++; });
		thread.stop ();
	} catch (Error error) {
		Test.message ("%s", error.message);
	}
	assert_cmpint (calls, EQ, 1);
}

int main (string[] args) {
	Test.init (ref args);
	Test.add_func ("/vala/callbacks", test_callbacks);
	Test.add_func ("/vala/fd", test_fd);
	Test.add_func ("/vala/error", test_error);
	Test.add_func ("/vala/notifier", test_notifier);
	Test.add_func ("/vala/child", test_child);
	Test.add_func ("/vala/thread", test_thread);
	return Test.run ();
}

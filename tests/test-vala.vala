// SPDX-License-Identifier: LGPL-2.1-or-later
// The library as Vala sees it: that it compiles without a warning is half of the test.

// What a callback holds. Once nothing is held, nobody is alive.
class Witness {
	public static int alive = 0;
	public int calls = 0;

	public Witness () {
		alive++;
	}

	~Witness () {
		alive--;
	}

	public void call () {
		calls++;
	}

	public void call_ready (Gaio.ReadySet set, uint n_ready) {
		calls++;
	}

	public bool call_and_stay (int fd, IOCondition condition) {
		calls++;
		return Source.CONTINUE;
	}
}

// The end of a pipe that has hung up, and stays so: it is always ready.
class HungUp {
	public int fd;

	public HungUp () throws Error {
		int[] ends = new int[2];
		Unix.open_pipe (ends, 0);
		FileUtils.close (ends[1]);
		fd = ends[0];
	}

	~HungUp () {
		FileUtils.close (fd);
	}
}

void test_callbacks () throws Error {
	var context = new Gaio.Context ();
	string[] calls = {};
	var timer = context.add_timer (() => { calls += "timer"; });
	timer.arm (0);
	context.defer (() => { calls += "deferred"; });
	while (calls.length < 2)
		context.iterate (-1);
	assert_cmpstr (string.joinv (" ", calls), EQ, "deferred timer");
}

void test_fd () throws Error {
	var hung_up = new HungUp ();
	var handler = Gaio.Context.get_default ().add_fd (hung_up.fd, IN, (fd, condition) => {
		assert_cmpint (fd, EQ, hung_up.fd);
		assert_true (condition == HUP);
		return Source.REMOVE;
	});
	while (!handler.is_removed ())
		MainContext.default ().iteration (true);
}

// Lambdas capture, and method delegates refer to their instance.
void add_everything (Gaio.Context context, int fd) throws Gaio.Error {
	var witness = new Witness ();
	var set = new Gaio.ReadySet (context);

	context.add_fd (fd, IN, witness.call_and_stay);
	context.add_fd (fd, IN, (fd, condition) => { return witness.call_and_stay (fd, condition); });
	context.add_notifier (new Gaio.Notifier (), () => { witness.call (); });
	context.add_timer (witness.call);
	context.add_timeout (1000, () => {
		witness.call ();
		return Source.CONTINUE;
	});
	context.add_bottom_half (() => { witness.call (); });
	context.defer (witness.call);
	set.set_func ((ready, n_ready) => { witness.call (); });
	set.add_fd (fd, IN, 1);
}

void test_closures_are_released_at_close () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();

	add_everything (context, hung_up.fd);
	context.iterate (0);
	assert_cmpint (Witness.alive, EQ, 1);
	context.close ();
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_closures_are_released_with_the_context () throws Error {
	var hung_up = new HungUp ();

	add_everything (new Gaio.Context (), hung_up.fd);
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_closure_is_released_with_its_handler () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();
	var handler = context.add_fd (hung_up.fd, IN, new Witness ().call_and_stay);
	var timer = context.add_timer (new Witness ().call);
	var bottom_half = context.add_bottom_half (new Witness ().call);

	context.iterate (-1);
	assert_cmpint (Witness.alive, EQ, 3);
	handler.remove ();
	timer.remove ();
	bottom_half.remove ();
	context.iterate (0);
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_closure_is_released_when_adding_fails () throws Error {
	try {
		new Gaio.Context ().add_fd (-1, IN, new Witness ().call_and_stay);
		Test.fail ();
	} catch (Gaio.Error error) {
		assert_cmpint (Witness.alive, EQ, 0);
	}
}

void test_closure_is_released_after_its_only_call () throws Error {
	var context = new Gaio.Context ();

	context.defer (new Witness ().call);
	assert_cmpint (Witness.alive, EQ, 1);
	context.iterate (-1);
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_replaced_function_is_released () throws Error {
	var context = new Gaio.Context ();
	var set = new Gaio.ReadySet (context);

	set.set_func (new Witness ().call_ready);
	assert_cmpint (Witness.alive, EQ, 1);
	set.set_func (null);
	context.iterate (0);
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_dropped_handle_keeps_the_watch () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();
	var witness = new Witness ();

	context.add_fd (hung_up.fd, IN, witness.call_and_stay);
	context.iterate (-1);
	assert_cmpint (witness.calls, EQ, 1);
}

void test_handle_outlives_the_context () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();
	Gaio.Handler handler = context.add_fd (hung_up.fd, IN, new Witness ().call_and_stay);
	Gaio.Handler copy = handler;

	context = null;
	handler = null;
	assert_true (copy.is_removed ());
	assert_null (copy.dup_context ());
}

// There is no clause for GLib.Error: valac would warn if anything but ours could be thrown.
void test_error_by_code () throws Error {
	var context = new Gaio.Context ();
	int caught = 0;

	try {
		context.add_fd (-1, IN, (fd, condition) => Source.CONTINUE);
	} catch (Gaio.Error.BAD_FD error) {
		assert_true (error is Gaio.Error.BAD_FD);
		assert_cmpstr (error.message, EQ, "fd -1 is not open");
		caught++;
	} catch (Gaio.Error error) {
		Test.fail ();
	}
	context.close ();
	try {
		context.attach (null);
	} catch (Gaio.Error.BAD_FD error) {
		Test.fail ();
	} catch (Gaio.Error error) {
		assert_cmpint (error.code, EQ, Gaio.Error.CLOSED);
		assert_true (error.domain == Gaio.Error.quark ());
		caught++;
	}
	assert_cmpint (caught, EQ, 2);
}

void add_self_removing (Gaio.Context context, int fd) throws Gaio.Error {
	var witness = new Witness ();
	Gaio.Handler? handler = null;

	handler = context.add_fd (fd, IN, (fd, condition) => {
		handler.remove ();
		handler = null;
		context.iterate (0);
		return witness.call_and_stay (fd, condition);
	});
}

// A closure that were released too soon would be gone after the nested round.
void test_removed_inside_its_callback () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();

	add_self_removing (context, hung_up.fd);
	assert_true (context.iterate (-1));
	assert_false (context.iterate (0));
	assert_cmpint (Witness.alive, EQ, 0);
}

void test_context_dropped_inside_a_callback () throws Error {
	var hung_up = new HungUp ();
	var context = new Gaio.Context ();
	unowned Gaio.Context alias = context;
	int calls = 0;

	context.add_fd (hung_up.fd, IN, (fd, condition) => {
		context = null;
		calls++;
		return Source.CONTINUE;
	});
	alias.iterate (-1);
	assert_cmpint (calls, EQ, 1);
}

void test_nested_main_loop () throws Error {
	var hung_up = new HungUp ();
	var main_context = new MainContext ();
	var context = new Gaio.Context ();
	string[] calls = {};
	var timer = context.add_timer (() => { calls += "timer"; });
	context.attach (main_context);

	var handler = context.add_fd (hung_up.fd, IN, (fd, condition) => {
		var nested = new MainLoop (main_context);
		timer.arm (1000);
		context.add_timeout (1, () => {
			if (calls.length > 0)
				nested.quit ();
			return calls.length > 0 ? Source.REMOVE : Source.CONTINUE;
		});
		nested.run ();
		calls += "fd";
		return Source.REMOVE;
	});
	while (!handler.is_removed ())
		main_context.iteration (true);
	assert_cmpstr (string.joinv (" ", calls), EQ, "timer fd");
	// What a closure captures holds the context, which holds the closure.
	context.close ();
}

void test_batch () throws Error {
	HungUp[] files = {};
	var context = new Gaio.Context ();
	var set = new Gaio.ReadySet (context);
	uint announced = 0;
	uint8[]? bytes = null;

	for (int i = 0; i < 16; i++) {
		files += new HungUp ();
		set.add_fd (files[i].fd, IN, ((uint64) 1 << 63) + i);
	}
	set.set_func ((ready, n_ready) => {
		announced = n_ready;
		bytes = ready.take ();
	});
	context.iterate (-1);
	assert_cmpuint (announced, EQ, 16);
	assert_cmpint (bytes.length, EQ, 16 * (int) sizeof (Gaio.ReadyRecord));

	// The cast knows how many records these bytes are.
	int n = 0;
	foreach (unowned var record in (Gaio.ReadyRecord[]) bytes) {
		int i = (int) (record.token - ((uint64) 1 << 63));
		assert_cmpint (record.fd, EQ, files[i].fd);
		assert_true (record.condition == IOCondition.HUP);
		n++;
	}
	assert_cmpint (n, EQ, 16);
	assert_null (set.take ());
}

void test_notifier () throws Error {
	var context = new Gaio.Context ();
	int calls = 0;
	var notifier = new Gaio.Notifier ();
	var handler = context.add_notifier (notifier, () => { calls++; });

	notifier.set ();
	context.iterate (-1);
	assert_cmpint (calls, EQ, 1);
	handler.remove ();
}

void test_timers () throws Error {
	var context = new Gaio.Context ();
	int ticks = 0;
	var timer = context.add_timer (() => {});
	context.add_timeout (1, () => ++ticks < 3);

	timer.arm_at (int64.MAX);
	assert_true (timer.get_deadline () == int64.MAX);
	timer.disarm ();
	assert_true (timer.get_deadline () == -1);
	while (ticks < 3)
		context.iterate (-1);
}

void test_child () throws Error {
	var context = new Gaio.Context ();
	int status = -1;
	Pid child;
	Process.spawn_async (null, {"false"}, null,
		SpawnFlags.SEARCH_PATH | SpawnFlags.DO_NOT_REAP_CHILD, null, out child);

	try {
		var handler = context.add_child (child, (pid, wait_status) => {
			status = Process.exit_status (wait_status);
		});
		while (!handler.is_removed ())
			context.iterate (-1);
	} catch (Gaio.Error.NOT_SUPPORTED error) {
		Test.skip (error.message);
		return;
	}
	assert_cmpint (status, EQ, 1);
}

async void use_file (Gaio.Context context, int fd) throws Error {
	var written = yield context.pwrite_async (fd, new Bytes ("hello".data), 3, null);
	assert_cmpint ((int) written, EQ, 5);
	assert_true (yield context.fsync_async (fd, null));
	var bytes = yield context.pread_async (fd, 100, 4, null);
	assert_true (bytes.compare (new Bytes ("ello".data)) == 0);
}

// Runs it until it has ended, or throws what it throws.
void run_file (Gaio.Context context, int fd) throws Error {
	AsyncResult? result = null;

	use_file.begin (context, fd, (object, end) => { result = end; });
	while (result == null)
		MainContext.default ().iteration (true);
	use_file.end (result);
}

void test_file () throws Error {
	string name;
	int fd = FileUtils.open_tmp ("gaio-XXXXXX", out name);

	FileUtils.unlink (name);
	run_file (Gaio.Context.get_default (), fd);
	FileUtils.close (fd);
	try {
		run_file (Gaio.Context.get_default (), -1);
		Test.fail ();
	} catch (Gaio.Error.BAD_FD error) {
		assert_cmpstr (error.message, EQ, "fd -1 is not open");
	}
}

async void read_cancelled (int fd) throws Error {
	var cancellable = new Cancellable ();

	cancellable.cancel ();
	yield Gaio.Context.get_default ().pread_async (fd, 100, 0, cancellable);
}

void test_cancelled_file () throws Error {
	string name;
	int fd = FileUtils.open_tmp ("gaio-XXXXXX", out name);
	AsyncResult? result = null;

	FileUtils.unlink (name);
	read_cancelled.begin (fd, (object, end) => { result = end; });
	while (result == null)
		MainContext.default ().iteration (true);
	FileUtils.close (fd);
	try {
		read_cancelled.end (result);
		Test.fail ();
	} catch (IOError.CANCELLED error) {
		assert_cmpstr (error.message, EQ, @"fd $fd: The operation was cancelled");
	}
}

async void wait_for_all (Gaio.Context context, HungUp hung_up) throws Error {
	var set = new Gaio.ReadySet (context);
	var member = set.add_fd (hung_up.fd, IN, 7);

	assert_true (yield context.sleep_async (1000));
	var condition = yield context.wait_fd_async (hung_up.fd, IN);
	assert_true (IOCondition.HUP in condition);
	uint8[] records = yield set.wait_async ();
	assert_cmpint (records.length, EQ, (int) sizeof (Gaio.ReadyRecord));
	member.remove ();
	yield context.wait_fd_async (-1, IN);
}

void test_waiting () throws Error {
	AsyncResult? result = null;

	wait_for_all.begin (Gaio.Context.get_default (), new HungUp (),
		(object, end) => { result = end; });
	while (result == null)
		MainContext.default ().iteration (true);
	try {
		wait_for_all.end (result);
		Test.fail ();
	} catch (Gaio.Error.BAD_FD error) {
		assert_cmpstr (error.message, EQ, "fd -1 is not open");
	}
}

void test_thread () throws Error {
	int calls = 0;
	var thread = new Gaio.Thread ("vala");

	thread.get_context ().defer (() => { calls++; });
	thread.stop ();
	assert_cmpint (calls, EQ, 1);
	assert_true (thread.get_context ().is_closed ());
}

delegate void Body () throws Error;

// An error fails the test, and so does whatever is still held at its end.
void add (string path, owned Body body) {
	Test.add_data_func ("/vala/" + path, () => {
		try {
			body ();
		} catch (Error error) {
			Test.message ("%s", error.message);
			Test.fail ();
		}
		assert_cmpint (Witness.alive, EQ, 0);
	});
}

int main (string[] args) {
	Test.init (ref args);
	add ("callbacks", test_callbacks);
	add ("fd", test_fd);
	add ("closures-are-released-at-close", test_closures_are_released_at_close);
	add ("closures-are-released-with-the-context", test_closures_are_released_with_the_context);
	add ("closure-is-released-with-its-handler", test_closure_is_released_with_its_handler);
	add ("closure-is-released-when-adding-fails", test_closure_is_released_when_adding_fails);
	add ("closure-is-released-after-its-only-call", test_closure_is_released_after_its_only_call);
	add ("replaced-function-is-released", test_replaced_function_is_released);
	add ("dropped-handle-keeps-the-watch", test_dropped_handle_keeps_the_watch);
	add ("handle-outlives-the-context", test_handle_outlives_the_context);
	add ("error-is-caught-by-code", test_error_by_code);
	add ("removed-inside-its-callback", test_removed_inside_its_callback);
	add ("context-dropped-inside-a-callback", test_context_dropped_inside_a_callback);
	add ("nested-main-loop", test_nested_main_loop);
	add ("batch", test_batch);
	add ("notifier", test_notifier);
	add ("timers", test_timers);
	add ("child", test_child);
	add ("file", test_file);
	add ("cancelled-file", test_cancelled_file);
	add ("waiting", test_waiting);
	add ("thread", test_thread);
	return Test.run ();
}

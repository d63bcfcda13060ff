// SPDX-License-Identifier: LGPL-2.1-or-later
// Watches a hundred files, and gets all that are ready in one call.
int main () {
	var loop = new MainLoop ();
	var ready_set = new Gaio.ReadySet (Gaio.Context.get_default ());
	Gaio.Notifier[] notifiers = {};

	ready_set.set_func ((ready, n_ready) => {
		print ("%u are ready\n", n_ready);
		foreach (unowned var record in (Gaio.ReadyRecord[]) ready.take ()) {
			notifiers[record.token].test_and_clear ();
			print ("token %d\n", (int) record.token);
		}
		loop.quit ();
	});

	try {
		for (int token = 0; token < 100; token++) {
			notifiers += new Gaio.Notifier ();
			ready_set.add_fd (notifiers[token].get_fd (), IN, token);
		}
	} catch (Gaio.Error error) {
		printerr ("%s\n", error.message);
		return 1;
	}
	foreach (int token in new int[] { 30, 60, 90 })
		notifiers[token].set ();
	loop.run ();
	return 0;
}

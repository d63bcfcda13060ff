// SPDX-License-Identifier: LGPL-2.1-or-later
async void take (Gaio.ReadySet set, Gaio.Notifier[] notifiers) throws Error {
	for (int left = 3; left > 0;) {
		uint8[] bytes = yield set.wait_async ();
		foreach (unowned var record in (Gaio.ReadyRecord[]) bytes) {
			if (IOCondition.IN in record.condition)
				print ("%d\n", (int) record.token);
			notifiers[record.token].test_and_clear ();
			left--;
		}
	}
}

int main () {
	var loop = new MainLoop ();
	var set = new Gaio.ReadySet (Gaio.Context.get_default ());
	Gaio.Notifier[] notifiers = {};

	try {
		for (int token = 0; token < 100; token++) {
			notifiers += new Gaio.Notifier ();
			set.add_fd (notifiers[token].get_fd (), IN, token);
		}
	} catch (Gaio.Error error) {
		printerr ("%s\n", error.message);
		return 1;
	}

	foreach (int number in new int[] { 30, 60, 90 })
		notifiers[number].set ();
	take.begin (set, notifiers, () => loop.quit ());
	loop.run ();
	return 0;
}

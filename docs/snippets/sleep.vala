// SPDX-License-Identifier: LGPL-2.1-or-later
async void wait_for (int64 us) {
	Gaio.Context.get_default ().add_timeout (us, () => {
		wait_for.callback ();
		return Source.REMOVE;
	});
	yield;
}

async void count_down () {
	foreach (int number in new int[] { 3, 2, 1 }) {
		print ("%d\n", number);
		yield wait_for (10000);
	}
}

void main () {
	var loop = new MainLoop ();

	count_down.begin (() => loop.quit ());
	loop.run ();
}

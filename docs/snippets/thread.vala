// SPDX-License-Identifier: LGPL-2.1-or-later
void main () {
	try {
		var home = Gaio.Context.get_default ();
		var thread = new Gaio.Thread ("worker");
		var loop = new MainLoop ();

		thread.get_context ().defer (() => {
			int sum = 0;
			for (int i = 1; i <= 1000; i++)
				sum += i;
			home.defer (() => {
				print ("%d\n", sum);
				loop.quit ();
			});
		});
		loop.run ();
		thread.stop ();
	} catch (Gaio.Error error) {
		printerr ("%s\n", error.message);
	}
}

// SPDX-License-Identifier: LGPL-2.1-or-later
// Three ticks, 10 ms apart, and then one call.

void main () {
	var context = Gaio.Context.get_default ();
	var loop = new MainLoop ();
	int ticks = 0;

	var timer = context.add_timer (() => {
		print ("done\n");
		loop.quit ();
	});

	context.add_timeout (10000, () => {
		print ("tick %d\n", ++ticks);
		if (ticks < 3)
			return Source.CONTINUE;
		timer.arm (5000);
		return Source.REMOVE;
	});

	loop.run ();
}

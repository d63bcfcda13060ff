// SPDX-License-Identifier: LGPL-2.1-or-later
int main () {
	var context = Gaio.Context.get_default ();
	var loop = new MainLoop ();
	int[] ends = new int[2];

	try {
		Unix.open_pipe (ends, 0);
		context.add_fd (ends[0], IN, (fd, condition) => {
			var buffer = new uint8[256];
			var length = Posix.read (fd, buffer, buffer.length);
			if (length > 0) {
				print ("%d bytes\n", (int) length);
				return Source.CONTINUE;
			}
			loop.quit ();
			return Source.REMOVE;
		});
	} catch (Error error) {
		printerr ("%s\n", error.message);
		return 1;
	}

	Posix.write (ends[1], "hello", 5);
	var timer = context.add_timer (() => { Posix.close (ends[1]); });
	timer.arm (10000);
	loop.run ();
	return 0;
}

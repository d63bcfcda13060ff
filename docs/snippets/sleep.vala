// SPDX-License-Identifier: LGPL-2.1-or-later
async void count_down_and_read (int fd) throws Error {
	var context = Gaio.Context.get_default ();
	var buffer = new uint8[6];

	foreach (int number in new int[] { 3, 2, 1 }) {
		print ("%d\n", number);
		yield context.sleep_async (10000);
	}
	yield context.wait_fd_async (fd, IN);
	Posix.read (fd, buffer, 5);
	print ("%s\n", (string) buffer);
}

void main () {
	var loop = new MainLoop ();
	int ends[2];

	Posix.pipe (ends);
	Posix.write (ends[1], "hello", 5);
	count_down_and_read.begin (ends[0], () => loop.quit ());
	loop.run ();
}

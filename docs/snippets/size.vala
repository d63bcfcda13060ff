// SPDX-License-Identifier: LGPL-2.1-or-later
async int64 find_end (int fd) throws Error {
	int64 offset = 0;

	while (true) {
		var bytes = yield Gaio.Context.get_default ().pread_async (fd, 4096, offset);
		if (bytes.length == 0)
			return offset;
		offset += bytes.length;
	}
}

async void show (int fd) {
	try {
		int64 size = yield find_end (fd);
		print (@"$size bytes\n");
	} catch (Error error) {
		printerr ("%s\n", error.message);
	}
}

void main () {
	var loop = new MainLoop ();
	int fd = Posix.open ("colours", Posix.O_RDONLY);

	show.begin (fd, () => loop.quit ());
	loop.run ();
	Posix.close (fd);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
// An echo server of GIO streams: each connection has a main context of its own.

async void echo (SocketConnection connection) throws Error {
	var buffer = new uint8[4096];
	ssize_t length;
	while ((length = yield connection.input_stream.read_async (buffer)) > 0)
		yield connection.output_stream.write_all_async (buffer[:length], Priority.DEFAULT, null, null);
}

int main () {
	var service = new Gaio.SocketService (null);
	service.connection.connect ((connection) => echo.begin (connection));
	try {
		print ("port %u\n", service.add_any_inet_port (null));
	} catch (Error error) {
		printerr ("%s\n", error.message);
		return 1;
	}
	stdout.flush ();
	new MainLoop ().run ();
	return 0;
}

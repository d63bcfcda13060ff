// SPDX-License-Identifier: LGPL-2.1-or-later
// Sends back what the first client sends, until it hangs up.

bool echo (Socket client) {
	var buffer = new uint8[4096];
	try {
		var length = client.receive (buffer);
		return length > 0 && client.send (buffer[:length]) == length;
	} catch (Error error) {
		return Source.REMOVE;
	}
}

void main () {
	try {
		var listener = new Socket (IPV4, STREAM, DEFAULT);
		listener.bind (new InetSocketAddress.from_string ("127.0.0.1", 0), true);
		listener.listen ();
		print ("port %u\n", ((InetSocketAddress) listener.local_address).port);

		var client = listener.accept ();
		var handler = Gaio.Context.get_default ().add_fd (client.fd, IN, () => echo (client));
		while (!handler.is_removed ())
			MainContext.default ().iteration (true);
	} catch (Error error) {
		printerr ("%s\n", error.message);
	}
}

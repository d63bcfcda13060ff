// SPDX-License-Identifier: LGPL-2.1-or-later
void main () {
	var context = new Gaio.Context ();

	try {
		context.add_fd (-1, IN, (fd, condition) => Source.CONTINUE);
	} catch (Gaio.Error.BAD_FD error) {
		print ("%s\n", error.message);
	} catch (Gaio.Error error) {
		print ("something else: %s\n", error.message);
	}
}

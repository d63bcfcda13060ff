// SPDX-License-Identifier: LGPL-2.1-or-later
namespace Gaio {
	[CCode (cname = "GSourceOnceFunc")]
	public delegate void OnceFunc ();
}

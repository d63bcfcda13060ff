#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-vapi.py VAPIGEN GIR SOURCES: vapigen has nothing to say against the Vala binding.

SOURCES is the folder with the metadata. Meson runs vapigen too, but keeps its warnings quiet.
"""

import subprocess
import sys
import tempfile

VAPIGEN, GIR, SOURCES = sys.argv[1:]

print("1..1")
with tempfile.TemporaryDirectory() as directory:
    said = subprocess.run(
        [VAPIGEN, "--library=gaio-1.0", f"--directory={directory}", f"--metadatadir={SOURCES}",
         "--pkg=gio-2.0", GIR, f"{SOURCES}/Gaio-1.0-custom.vala"],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout
passed = said == "Generation succeeded - 0 warning(s)\n"
print("ok" if passed else "not ok", "1 /vapi/no-warnings")
if not passed:
    print("#", "\n# ".join(said.splitlines()))

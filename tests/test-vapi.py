#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-vapi.py VAPIGEN GIR SOURCES: vapigen has nothing to say against the Vala binding, which has
the types that the metadata asks for.

SOURCES is the folder with the metadata. Meson runs vapigen too, but keeps its warnings quiet.
"""

import pathlib
import subprocess
import sys
import tempfile

VAPIGEN, GIR, SOURCES = sys.argv[1:]


def report(number, name, passed, said):
    print("ok" if passed else "not ok", f"{number} /vapi/{name}")
    if not passed:
        print("#", "\n# ".join(said.splitlines()))


print("1..2")
with tempfile.TemporaryDirectory() as directory:
    said = subprocess.run(
        [VAPIGEN, "--library=gaio-1.0", f"--directory={directory}", f"--metadatadir={SOURCES}",
         "--pkg=gio-2.0", GIR, f"{SOURCES}/Gaio-1.0-custom.vala"],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout
    vapi = pathlib.Path(directory, "gaio-1.0.vapi").read_text(encoding="utf-8")
report(1, "no-warnings", said == "Generation succeeded - 0 warning(s)\n", said)
record = vapi.partition("struct ReadyRecord {")[2].partition("}")[0]
report(2, "records-have-conditions", "public GLib.IOCondition condition;" in record, record)

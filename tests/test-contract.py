#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-contract.py [--update] LIBRARY [GIR]: that nobody changes the API or the ABI unknowingly.

The symbols that LIBRARY exports, and what GIR says of the API, are compared with the files in
contract/, or written there. The GIR has more than the typelib made of it: C-only functions, too.
"""

import difflib
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

CONTRACT = pathlib.Path(__file__).parent / "contract"
PACKAGED = pathlib.Path(__file__).parent.parent / "debian/libgaio-1-0.symbols"
CORE = "{http://www.gtk.org/introspection/core/1.0}"
C = "{http://www.gtk.org/introspection/c/1.0}"
GLIB = "{http://www.gtk.org/introspection/glib/1.0}"
# In two, for reuse takes it for the licence of this file.
HEAD = "# SPDX-" "License-Identifier: LGPL-2.1-or-later\n"
FLAGS = [
    "nullable",
    "optional",
    "caller-allocates",
    "throws",
    "deprecated",
    "writable",
    "construct",
    "construct-only",
    "final",
    "abstract",
]
CALLABLES = ["function", "constructor", "method", "virtual-method", "callback", "signal"]


def tag(element):
    return element.tag.rpartition("}")[2]


def type_of(element, parameters):
    """The type in C, and in the binding where they differ; the length of an array by name."""
    found = element.find(CORE + "type")
    if found is None:
        found = element.find(CORE + "array")
    if found is None:
        return "..."
    name = found.get("name") or f"array of {type_of(found, parameters)}"
    c_type = found.get(C + "type", name)
    text = c_type if c_type == name else f"{c_type} = {name}"
    if "length" in found.attrib:
        text += f", length {parameters[int(found.get('length'))]}"
    if found.get("zero-terminated") == "1":
        text += ", zero-terminated"
    if "fixed-size" in found.attrib:
        text += f", {found.get('fixed-size')} of them"
    return text


def flags_of(element):
    flags = [flag for flag in FLAGS if element.get(flag) == "1"]
    flags += ["C only"] if element.get("introspectable") == "0" else []
    return flags + ([f"since {element.get('version')}"] if "version" in element.attrib else [])


def describe_value(element, parameters):
    """A parameter, a result, a field or a property: type, direction, transfer, scope, flags."""
    words = [type_of(element, parameters)]
    words += [element.get("direction")] if element.get("direction", "in") != "in" else []
    words += [element.get("transfer-ownership")] if "transfer-ownership" in element.attrib else []
    words += [f"scope {element.get('scope')}"] if "scope" in element.attrib else []
    for role in "closure", "destroy":
        if role in element.attrib:
            words.append(f"{role} {parameters[int(element.get(role))]}")
    return "; ".join(words + flags_of(element))


def heading(element, owner):
    kind = tag(element)
    name = element.get(C + "identifier") or element.get(C + "type") or element.get("name")
    name = name or element.get(GLIB + "type-name")
    place = f" ({owner}.{element.get('name')})" if owner and name != element.get("name") else ""
    return "; ".join([f"{kind} {name}{place}"] + flags_of(element))


def describe_callable(element, owner):
    found = element.find(CORE + "parameters")
    everything = [] if found is None else list(found)
    parameters = [p.get("name") for p in everything if tag(p) == "parameter"]
    lines = [heading(element, owner)]
    lines += [f"  {p.get('name')}: {describe_value(p, parameters)}" for p in everything]
    result = element.find(CORE + "return-value")
    return lines + [f"  returns {describe_value(result, parameters)}", ""]


def describe_type(element):
    name = element.get("name")
    words = [heading(element, "")]
    words += [f"parent {element.get('parent')}"] if "parent" in element.attrib else []
    words += [f"type {element.get(GLIB + 'get-type')}"] if GLIB + "get-type" in element.attrib else []
    if GLIB + "error-domain" in element.attrib:
        words.append(f"error domain {element.get(GLIB + 'error-domain')}")
    lines = ["; ".join(words)]
    for child in element:
        if tag(child) == "member":
            lines.append(f"  {child.get(C + 'identifier')} = {child.get('value')}")
        elif tag(child) == "field":
            lines.append(f"  field {child.get('name')}: {describe_value(child, [])}")
        elif tag(child) == "property":
            lines.append(f"  property {child.get('name')}: {describe_value(child, [])}")
        elif tag(child) == "implements":
            lines.append(f"  implements {child.get('name')}")
    lines.append("")
    return lines + [
        line
        for child in element
        if tag(child) in CALLABLES
        for line in describe_callable(child, name)
    ]


def read_api(gir):
    """One line for each parameter, so that a difference shows what has changed."""
    lines = []
    for element in ElementTree.parse(gir).getroot().find(CORE + "namespace"):
        if tag(element) in ("docsection", "function-macro"):
            continue
        if tag(element) in CALLABLES:
            lines += describe_callable(element, "")
        elif tag(element) == "constant":
            lines += [heading(element, ""), ""]
        else:
            lines += describe_type(element)
    return HEAD + "\n" + "\n".join(lines).rstrip() + "\n"


def read_abi(library):
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", library],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return HEAD + "".join(f"{line.split()[0]}\n" for line in sorted(listing.splitlines()))


def read_packaged():
    """What the package promises."""
    lines = PACKAGED.read_text(encoding="utf-8").splitlines()
    return HEAD + "".join(f"{line.split('@')[0].strip()}\n" for line in lines if "@Base" in line)


def compare(name, now):
    """The lines that differ from what has been promised."""
    path = CONTRACT / name
    promised = path.read_text(encoding="utf-8") if path.exists() else ""
    return list(
        difflib.unified_diff(
            promised.splitlines(), now.splitlines(), f"{name}, promised", f"{name}, now", lineterm=""
        )
    )


def update(contents):
    CONTRACT.mkdir(exist_ok=True)
    for name, now in contents:
        (CONTRACT / name).write_text(now, encoding="utf-8")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--update"]
    if shutil.which("nm") is None:
        print("1..0 # SKIP nm is not installed")
        return False
    contents = [("symbols.txt", read_abi(arguments[0]))]
    contents += [("Gaio-1.0.txt", read_api(gir)) for gir in arguments[1:]]
    if len(arguments) < len(sys.argv) - 1:
        update(contents)
        return False
    contents += [("symbols.txt", read_packaged())]
    failed = False
    for number, (name, now) in enumerate(contents, 1):
        differences = compare(name, now)
        for line in differences:
            print("#", line)
        failed |= differences != []
        print(f"{'not ok' if differences else 'ok'} {number} {name} is what there is")
    if failed:
        again = " ".join(os.path.relpath(path) for path in arguments)
        print(f"# If that is meant: cd {os.getcwd()}; {os.path.relpath(__file__)} --update {again}")
    print(f"1..{len(contents)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

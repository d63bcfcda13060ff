#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# emulate.sh ROOT PROGRAM [ARGUMENT...]: runs a program for aarch64, with the libraries under ROOT.
#
# A test that starts itself again, by its argv[0], starts this, which remembers what that was.
if [ -z "${EMULATED_PROGRAM-}" ]; then
  export EMULATED_ROOT="$1" EMULATED_PROGRAM="$2"
  shift 2
fi
exec qemu-aarch64 -L "$EMULATED_ROOT" -0 "$0" "$EMULATED_PROGRAM" "$@"

#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Usage: examples/demo.sh BUILDDIR [OPTION OF relay-load]...
# Runs the relay with each of its ways to watch connections, under the same load, and prints what
# came out side by side: what Gaio does for fds, and what it does for the streams of GIO.
set -eu
export LC_ALL=C

if [ $# -eq 0 ]; then
  echo "usage: $0 BUILDDIR [--connections=N] [--active=K] [--seconds=S]" >&2
  exit 2
fi
bin=$1/examples
# In pairs: without Gaio, and with it.
ways='glib gaio gio gaio-gio'
# Without Gaio, a GSocketService takes minutes to accept as many as the others: it accepts one in an
# iteration, which walks all those before it.
max_streams=3000
shift
results=$(mktemp -d)
relay_pid=

cleanup ()
{
  [ -z "$relay_pid" ] || kill "$relay_pid" 2>/dev/null || :
  rm -rf "$results"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits for the line that tells the port.
relay_port ()
{
  while ! grep -q '^listening on ' "$1" 2>/dev/null; do
    kill -0 "$relay_pid" 2>/dev/null || { echo "the relay did not start" >&2; return 1; }
    sleep 0.1
  done
  sed -n 's/^listening on .*://p' "$1"
}

# run WATCH OPTION...
run ()
{
  watch=$1
  shift
  echo "relay --watch=$watch"
  "$bin/relay" --watch="$watch" > "$results/relay-$watch" &
  relay_pid=$!
  port=$(relay_port "$results/relay-$watch")
  "$bin/relay-load" --port="$port" --machine "$@" > "$results/$watch"
  kill -TERM "$relay_pid"
  status=0
  wait "$relay_pid" || status=$?
  relay_pid=
  [ "$status" -eq 0 ] || { echo "the relay exited with status $status" >&2; return 1; }
}

# A connection with a main context takes two fds.
fds=$(ulimit -Hn)
[ "$fds" = unlimited ] || [ "$fds" -gt $((2 * max_streams + 100)) ] || max_streams=$((fds / 2 - 50))
for watch in $ways; do
  case $watch in
    *gio) run "$watch" --connections="$max_streams" "$@" ;;
    *) run "$watch" "$@" ;;
  esac
done

awk -F= '
  function number (x) { return sprintf (x < 100 ? "%.1f" : "%.0f", x) }
  function ratio (before, after) { return before > 0 ? sprintf ("%.3f", after / before) : "-" }
  function row (label, a, b, c, d, e, f)
  {
    printf "%-26s %9s %9s %8s  %9s %9s %8s\n", label, a, b, c, d, e, f
  }
  FILENAME != file { file = FILENAME; column++ }
  { value[$1, column] = $2; if (column == 1) key[++n] = $1 }
  END {
    label["connections"] = "connections"
    label["messages_per_s"] = "messages/s"
    label["latency_p50_us"] = "latency p50, us"
    label["latency_p99_us"] = "latency p99, us"
    label["latency_p999_us"] = "latency p99.9, us"
    label["server_cpu_us_per_message"] = "server CPU per message, us"
    label["heartbeat_late_p99_us"] = "heartbeat late p99, us"
    label["heartbeat_late_max_us"] = "heartbeat late max, us"
    print ""
    row("", "glib", "gaio", "ratio", "gio", "gaio-gio", "ratio")
    for (i = 1; i <= n; i++) {
      for (j = 1; j <= column; j++)
        v[j] = value[key[i], j]
      row(label[key[i]], number(v[1]), number(v[2]), ratio(v[1], v[2]),
        number(v[3]), number(v[4]), ratio(v[3], v[4]))
    }
  }' $(for watch in $ways; do echo "$results/$watch"; done)

#!/bin/bash
# docker_run.sh HOSTPORT LINE...     (root)
# exits 0 only if each LINE, run by a shell, succeeds with a real, private dockerd.
# env: as for docker_search.sh
set -uo pipefail
[ $# -ge 2 ] || { echo "usage: $0 HOSTPORT LINE..." >&2; exit 2; }
HP=$1; shift
. "$(dirname "$0")/dockerd.sh"
for line; do
  timeout 120 sh -c "$line" || { echo "FAIL: $line" >&2; exit 1; }
done
echo "PASS: $# lines"

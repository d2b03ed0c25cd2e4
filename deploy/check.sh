#!/bin/bash
# check.sh -- make check: what a reviewer should not have to look for.
# It goes on after a failure, to show all of them, and then exits 1.
set -uo pipefail
cd "$(dirname "$0")/.."

# Pinned, so that a new release cannot break yesterday's commit.
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.7.0

section() { printf '\n== %s\n' "$*"; }
failed=()
fail() { failed+=("$1"); }

# in_module DIR COMMAND...: modules below test stand outside the workspace.
in_module() {
	local dir=$1 work=
	shift
	case $dir in test/*) work=off ;; esac
	(cd "$dir" && GOWORK=$work "$@")
}
modules=()
for dir in registry schema indexer deploy test/*; do
	[ -f "$dir/go.mod" ] && modules+=("$dir")
done

section "gofmt"
unformatted=$(gofmt -l "${modules[@]}") || fail gofmt
[ -z "$unformatted" ] || { echo "$unformatted"; fail gofmt; }

for dir in "${modules[@]}"; do
	section "$dir: go vet, staticcheck, go mod tidy"
	in_module "$dir" go vet ./... || fail "go vet in $dir"
	in_module "$dir" go run $staticcheck ./... || fail "staticcheck in $dir"
	# Each module must be whole by itself: GOWORK=off.
	(cd "$dir" && GOWORK=off go mod tidy -diff) || fail "go mod tidy in $dir"
done

# The packages with goroutines and without a database or a registry: those
# take minutes under the race detector and run in make test.
section "go test -race"
deploy/prerequisites.sh >/dev/null
race=(./indexer ./indexer/config ./indexer/remote ./indexer/web/... ./deploy/launch ./schema/localpg/...)
mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg &&
	.run/withpg go test -race "${race[@]}" || fail "go test -race"

section "Result"
[ ${#failed[@]} -eq 0 ] || { printf 'FAIL: %s\n' "${failed[@]}"; exit 1; }
echo "All checks passed."

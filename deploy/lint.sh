#!/bin/bash
# lint.sh -- make lint: what can be said of the code without running it.
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

# gofmt: no change of a file is about its layout.
section "gofmt"
unformatted=$(gofmt -l "${modules[@]}") || fail gofmt
[ -z "$unformatted" ] || { echo "$unformatted"; fail gofmt; }

# go vet finds code that compiles and is wrong: a lock that is copied, a context
# that is never cancelled, a format that does not fit its arguments.
# staticcheck finds code that is never used, errors that are never read, and
# functions that the standard library replaced.
for dir in "${modules[@]}"; do
	section "$dir: go vet, staticcheck"
	in_module "$dir" go vet ./... || fail "go vet in $dir"
	in_module "$dir" go run $staticcheck ./... || fail "staticcheck in $dir"
done

# Rules of this project; the reason stands beside each test, in
# indexer/house_test.go and indexer/style_test.go.
#   TestImports      imports go one way, so that a package can be read by itself
#   TestModules      a new dependency is a decision
#   TestDocComments  an exported name says what it means
#   TestLineWidth    wide lines hide how long a function is
section "the rules of the house"
in_module indexer go test -count=1 -run '^(TestImports|TestModules|TestDocComments|TestLineWidth)$' . ||
	fail "the rules of the house"

section "Result of make lint"
[ ${#failed[@]} -eq 0 ] || { printf 'FAIL: %s\n' "${failed[@]}"; exit 1; }
echo "No complaints."

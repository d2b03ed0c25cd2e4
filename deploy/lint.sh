#!/bin/bash
# lint.sh -- make lint: checks of the source code. After a failure it continues, to
# show all of them, and exits 1 at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

# Pinned, so that a new release cannot break an old commit.
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.7.0

section() { printf '\n== %s\n' "$*"; }
failed=()
fail() { failed+=("$1"); }

# in_module DIR COMMAND...: runs a command in a module. Modules below test are outside
# the workspace.
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

# gofmt, so that no commit only changes the layout of a file.
section "gofmt"
unformatted=$(gofmt -l "${modules[@]}") || fail gofmt
[ -z "$unformatted" ] || { echo "$unformatted"; fail gofmt; }

# go vet finds code that compiles but is wrong: a copied lock, a context that is never
# cancelled, a format that does not match its arguments.
# staticcheck finds unused code, unchecked errors and deprecated functions.
GOWORK=off GOBIN=$PWD/.run go install $staticcheck || fail "installing staticcheck"
root=$PWD
for dir in "${modules[@]}"; do
	section "$dir: go vet, staticcheck"
	in_module "$dir" go vet ./... || fail "go vet in $dir"
	in_module "$dir" "$root/.run/staticcheck" ./... || fail "staticcheck in $dir"
done

# Rules of this project. The tests in indexer/house_test.go and indexer/style_test.go
# give the reasons.
#   TestImports      imports go one way, so that a package can be understood alone
#   TestModules      a new dependency must be listed
#   TestDocComments  exported names have doc comments
#   TestLineWidth    wide lines hide the length of a function
section "rules of this project"
in_module indexer go test -count=1 -run '^(TestImports|TestModules|TestDocComments|TestLineWidth)$' . ||
	fail "rules of this project"

section "Result of make lint"
[ ${#failed[@]} -eq 0 ] || { printf 'FAIL: %s\n' "${failed[@]}"; exit 1; }
echo "All checks of make lint passed."

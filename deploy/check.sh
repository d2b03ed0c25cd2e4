#!/bin/bash
# check.sh -- make check: the checks that need no reviewer. After a failure it
# continues, to show all of them, and exits 1 at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

section() { printf '\n== %s\n' "$*"; }
failed=()
fail() { failed+=("$1"); }

deploy/lint.sh || fail "make lint"

# Each module must be complete by itself: GOWORK=off.
for dir in registry schema indexer deploy test/*; do
	[ -f "$dir/go.mod" ] || continue
	section "$dir: go mod tidy"
	(cd "$dir" && GOWORK=off go mod tidy -diff) || fail "go mod tidy in $dir"
done

# The packages with goroutines. Left out, because they take minutes under the race
# detector: the comparisons with an oracle, the tests of large or hostile content, those that
# visit every route for many askers, and
# TestHangingReferences, whose pushes must be stored before a read of 60 s ends.
# make test runs them without the detector. A new test is included. -vet=off: make lint
# has run go vet.
section "go test -race"
deploy/prerequisites.sh >/dev/null
race=(./indexer ./indexer/cache ./indexer/config ./indexer/memory ./indexer/remote ./indexer/web/... ./indexer/ingest ./indexer/postgres/... ./deploy/launch ./schema/localpg/...)
slow='^(TestHostileBy|TestHangingReferences$|TestOracle|TestImages|TestNewWordsInOneTrip|TestRowsFollow|TestTermsFollow|TestDifferences|TestNoRouteTells|TestPagesEscape)'
mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg &&
	.run/withpg go test -race -vet=off -timeout 20m -skip "$slow" "${race[@]}" || fail "go test -race"

section "Result"
[ ${#failed[@]} -eq 0 ] || { printf 'FAIL: %s\n' "${failed[@]}"; exit 1; }
echo "All checks passed."

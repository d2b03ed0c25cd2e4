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

# The packages with goroutines. Left out, because they take minutes under the race detector
# and do one thing after the other: comparisons with an oracle or a plain reading, tests of
# large or hostile content, those that visit every route for many askers, migrations down
# and up, and TestHangingReferences, whose pushes must be stored before a read of 60 s
# ends. make test runs them without the detector. A new test is included. -vet=off: make
# lint has run go vet.
section "go test -race"
deploy/prerequisites.sh >/dev/null
race=(./indexer ./indexer/{cache,collect,config,deliver,errorreport,ingest,manage,memory,plan,remote} ./indexer/{postgres,web}/...
	./deploy/launch ./schema/localpg/...)
slow=(
	# indexer/ingest, manage, memory, plan
	'TestHostileBy' 'TestHangingReferences$' 'TestDeleteWhatManyShare$' 'TestChanges$' 'TestPhrase$' 'TestPlanOfManyTags$'
	# indexer/postgres
	'TestDownAndUp$' 'TestFacetsOfMany' 'TestOverviewEstimates$' 'TestSearchAtIsSearch$' 'TestSearchChanges$'
	'TestTagsOnOneLargeIndex$' 'TestViewsShowWhatTheirAskerSees$' 'TestYankedIsNotFound$' 'TestNewWordsInOneTrip'
	# indexer/postgres/search
	'TestOracle' 'TestImages' 'TestRowsFollow' 'TestTermsFollow' 'TestTotals$' 'TestDifferences'
	# indexer/web
	'TestNoRouteTells' 'TestPagesEscape' 'TestNothingFails$'
)
mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg &&
	.run/withpg go test -race -vet=off -timeout 20m -skip "^($(IFS='|'; echo "${slow[*]}"))" "${race[@]}" || fail "go test -race"

section "Result"
[ ${#failed[@]} -eq 0 ] || { printf 'FAIL: %s\n' "${failed[@]}"; exit 1; }
echo "All checks passed."

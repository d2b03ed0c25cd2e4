#!/bin/bash
# test.sh -- make test: every test of every module, on one private PostgreSQL.
# It goes on after a failure, to show all of them, and then exits 1.
set -uo pipefail
cd "$(dirname "$0")/.."

section() { printf '\n== %s\n' "$*"; }
failed=()

section "What the tests need"
deploy/prerequisites.sh
case $? in
0) export CI=${CI:-1} ;; # all is there: a test that skips itself now fails
3) ;;
*) exit 1 ;;
esac

if [ -z "${PORTBOOK_TEST_DATABASE_URL+set}" ]; then
	section "One PostgreSQL for all packages"
	mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg || exit 1
	exec .run/withpg "$0" # once more, with the variable set, if only to nothing
fi

# The road test is long and uses all the rest, so it comes last.
for dir in registry schema indexer deploy $(ls -d test/*/ | grep -v '^test/clients/') test/clients; do
	[ -f "$dir/go.mod" ] || continue
	section "go test ${dir%/}"
	# -count=1: tests run programs that go test does not know of, and so would not
	# see that they changed. Modules below test stand outside the workspace: their
	# dependencies are nobody else's concern.
	case $dir in test/*) work=off ;; *) work= ;; esac
	# test/attack prints what victims of attacks felt, which go test hides otherwise.
	case $dir in test/attack/) show=-v ;; *) show= ;; esac
	(cd "$dir" && GOWORK=$work go test $show -count=1 -timeout 20m ./...) || failed+=("${dir%/}")
done

section "Result"
[ ${#failed[@]} -eq 0 ] || { echo "FAIL: ${failed[*]}"; exit 1; }
echo "All tests passed."

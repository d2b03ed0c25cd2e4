#!/bin/bash
# test.sh -- make test: every test of every module, on one private PostgreSQL.
# It goes on after a failure, to show all of them, and then exits 1.
set -uo pipefail
cd "$(dirname "$0")/.."

# gotestsum shows what go test shows, and keeps the times of the tests. Pinned, so
# that a new release cannot break yesterday's commit.
gotestsum=gotest.tools/gotestsum@v1.13.0

section() { printf '\n== %s\n' "$*"; }
failed=()

# about DIR: what the tests of a module are about.
about() {
	case $1 in
	registry) echo "the stock registry with each of its configurations, and the client that pushes" ;;
	schema) echo "migrations up and down, rights, private PostgreSQL servers" ;;
	indexer) echo "the service: its packages, with PostgreSQL and a registry, and whole processes" ;;
	deploy) echo "what make up starts" ;;
	test/attack) echo "costly and hostile requests, and how long other users wait meanwhile" ;;
	test/bench) echo "the benchmarks, with small numbers" ;;
	test/browser) echo "every page in Chromium, its HTML and who can use it" ;;
	test/compose) echo "nginx.conf and docker-compose.yml" ;;
	test/operations) echo "the commands of doc/operations.md, in order" ;;
	test/clients) echo "make up, asked by docker, podman, skopeo, flatpak and others" ;;
	esac
}

section "What the tests need"
deploy/prerequisites.sh
case $? in
0) export CI=${CI:-1} ;; # nothing is missing: a test that skips itself fails
3) ;;
*) exit 1 ;;
esac

if [ -z "${PORTBOOK_TEST_DATABASE_URL+set}" ]; then
	section "One PostgreSQL for all packages"
	mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg || exit 1
	exec .run/withpg "$0" # again, with the variable set, even if to nothing
fi

GOWORK=off GOBIN=$PWD/.run go install $gotestsum || exit 1
times=$(mktemp -d)
trap 'rm -rf "$times"' EXIT

# The road test is long and uses all the rest, so it comes last.
for dir in registry schema indexer deploy $(ls -d test/*/ | grep -v '^test/clients/') test/clients; do
	dir=${dir%/}
	[ -f "$dir/go.mod" ] || continue
	section "go test $dir: $(about "$dir")"
	# Modules below test stand outside the workspace, so that their dependencies are
	# not those of the others.
	case $dir in test/*) work=off ;; *) work= ;; esac
	# test/attack prints how long victims waited, which go test hides otherwise.
	case $dir in test/attack) format=standard-verbose ;; *) format=standard-quiet ;; esac
	# -count=1: tests run programs that go test does not know of, so it does not see
	# that they changed.
	(root=$PWD && cd "$dir" && GOWORK=$work "$root/.run/gotestsum" --format $format --hide-summary all \
		--jsonfile "$times/${dir//\//-}.json" -- -count=1 -timeout 20m ./...) || failed+=("$dir")
done

section "The slowest ten tests"
cat "$times"/*.json | .run/gotestsum tool slowest --num 10

section "Result"
[ ${#failed[@]} -eq 0 ] || { echo "FAIL: ${failed[*]}"; exit 1; }
echo "All tests passed."

#!/bin/bash
# test.sh -- make test: every test of every module, with one private PostgreSQL. After
# a failure it continues, to show all of them, and exits 1 at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

# gotestsum prints the output of go test and records the times of the tests. Pinned, so
# that a new release cannot break an old commit.
gotestsum=gotest.tools/gotestsum@v1.13.0

section() { printf '\n== %s\n' "$*"; }
failed=()

# about DIR: a description of the tests of a module.
about() {
	case $1 in
	registry) echo "the stock registry with each of its configurations, and the client that pushes" ;;
	schema) echo "migrations up and down, privileges, private PostgreSQL servers" ;;
	indexer) echo "the service: packages with PostgreSQL and a registry, and whole processes" ;;
	deploy) echo "the launcher of make up" ;;
	test/attack) echo "costly and hostile requests, and the response times of other users" ;;
	test/bench) echo "the benchmarks, with small numbers" ;;
	test/browser) echo "every page in Chromium, its HTML and its accessibility" ;;
	test/compose) echo "nginx.conf and docker-compose.yml" ;;
	test/operations) echo "the commands of doc/operations.md, in order" ;;
	test/clients) echo "make up with docker, podman, skopeo, flatpak and others" ;;
	esac
}

section "Prerequisites of the tests"
deploy/prerequisites.sh
case $? in
0) export CI=${CI:-1} ;; # nothing is missing, so a skipped test is a failure
3) ;;
*) exit 1 ;;
esac

if [ -z "${PORTBOOK_TEST_DATABASE_URL+set}" ]; then
	section "PostgreSQL for all packages"
	mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg || exit 1
	exec .run/withpg "$0" # runs this script again with the variable set, possibly to ""
fi

GOWORK=off GOBIN=$PWD/.run go install $gotestsum || exit 1
times=$(mktemp -d)
trap 'rm -rf "$times"' EXIT

# The road test is long and uses everything else, so it runs last.
for dir in registry schema indexer deploy $(ls -d test/*/ | grep -v '^test/clients/') test/clients; do
	dir=${dir%/}
	[ -f "$dir/go.mod" ] || continue
	section "go test $dir: $(about "$dir")"
	# Modules below test are outside the workspace, so that other modules do not get
	# their dependencies.
	case $dir in test/*) work=off ;; *) work= ;; esac
	# test/attack prints response times, which go test hides otherwise.
	case $dir in test/attack) format=standard-verbose ;; *) format=standard-quiet ;; esac
	# -count=1: tests run programs that go test does not know, so its cache does not
	# notice changes of them.
	(root=$PWD && cd "$dir" && GOWORK=$work "$root/.run/gotestsum" --format $format --hide-summary all \
		--jsonfile "$times/${dir//\//-}.json" -- -count=1 -timeout 20m ./...) || failed+=("$dir")
done

section "The ten slowest tests"
cat "$times"/*.json | .run/gotestsum tool slowest --num 10

section "Result"
[ ${#failed[@]} -eq 0 ] || { echo "FAIL: ${failed[*]}"; exit 1; }
echo "All tests passed."

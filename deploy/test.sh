#!/bin/bash
# test.sh -- make test: every test of every module, with one private PostgreSQL. After
# a failure it continues, to show all of them, and exits 1 at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

# gotestsum prints the output of go test and records the times of the tests. Pinned, so
# that a new release cannot break an old commit.
gotestsum=gotest.tools/gotestsum@v1.13.0

section() { printf '\n== %s\n' "$*"; }

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
	test/storage) echo "the registry with the configuration that we write, on each storage" ;;
	test/clients) echo "make up with docker, podman, skopeo, flatpak and others" ;;
	esac
}

if [ "${1-}" != with-postgres ]; then
	section "Prerequisites of the tests"
	deploy/prerequisites.sh
	case $? in
	0) export CI=${CI:-1} ;; # nothing is missing, so a skipped test is a failure
	3) ;;
	*) exit 1 ;;
	esac
fi

if [ -z "${PORTBOOK_TEST_DATABASE_URL+set}" ]; then
	section "PostgreSQL for all packages"
	mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg || exit 1
	exec .run/withpg "$0" with-postgres # runs this script again with the variable set, possibly to ""
fi

GOWORK=off GOBIN=$PWD/.run go install $gotestsum || exit 1
times=$(mktemp -d) # times of tests by module, names of modules that failed, output for later
trap 'rm -rf "$times"' EXIT

# run DIR...: all tests of these modules, one module after the other.
run() {
	local dir work format
	for dir in "$@"; do
		section "go test $dir: $(about "$dir")"
		# Modules below test are outside the workspace, so that other modules do not get
		# their dependencies.
		case $dir in test/*) work=off ;; *) work= ;; esac
		# test/attack prints response times, which go test hides otherwise.
		case $dir in test/attack) format=standard-verbose ;; *) format=standard-quiet ;; esac
		# -count=1: tests run programs that go test does not know, so its cache does not
		# notice changes of them. -vet=off: make lint runs go vet.
		(root=$PWD && cd "$dir" && GOWORK=$work "$root/.run/gotestsum" --format $format --hide-summary skipped \
			--jsonfile "$times/${dir//\//-}.json" -- -count=1 -vet=off -timeout 20m ./...) || echo "$dir" >>"$times/failed"
	done
}

# These modules mostly wait for processes, so they run at the same time as the longest
# one, indexer; their output follows.
beside=(registry deploy test/bench test/compose test/operations test/storage)
# These measure times or use everything, so they run alone. The road test runs last.
alone=(test/attack test/browser test/clients)
for dir in */go.mod test/*/go.mod; do # includes a new module
	dir=${dir%/go.mod}
	case " schema indexer ${beside[*]} ${alone[*]} " in
	*" $dir "*) ;;
	*) alone=("$dir" "${alone[@]}") ;;
	esac
done

section "At the same time: ${beside[*]}"
set -m # a process group of its own, so that all of it can be killed
run "${beside[@]}" >"$times/later" 2>&1 &
later=$!
set +m
trap 'kill -TERM -- -$later 2>/dev/null && wait $later; rm -rf "$times"' EXIT
run schema indexer
wait $later
cat "$times/later"
run "${alone[@]}"

section "The ten slowest tests"
cat "$times"/*.json | .run/gotestsum tool slowest --num 10

section "Result"
[ ! -e "$times/failed" ] || { echo "FAIL: $(tr '\n' ' ' <"$times/failed")"; exit 1; }
echo "All tests passed."

# The tasks of developers. Each target installs what it needs; programs and scripts in
# deploy/ do the work.
.DEFAULT_GOAL := help
.PHONY: help up test lint check bench bench-search bench-peers bench-pages bench-login bench-usage bench-manage bench-plans bench-sweep screenshots golden need-go

# An address, a folder, and yes or no. Empty means the default of deploy/up.
ADDR    ?=
DATA    ?=
SAMPLES ?=

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo
	@echo "  make up ADDR=127.0.0.1:7080 DATA=folder SAMPLES=no"

# exec: signals reach the launcher, without a shell in between.
up: need-go ## run everything on this machine; Ctrl-C stops it
	@mkdir -p .run && go build -buildvcs=false -o .run/up ./deploy/up && \
	exec .run/up $(if $(ADDR),-addr '$(ADDR)') $(if $(DATA),-data '$(DATA)') $(if $(SAMPLES),-samples '$(SAMPLES)') $(if $(AUTH),-auth '$(AUTH)')

test: need-go ## run all tests, with real clients
	@deploy/test.sh

lint: need-go ## run gofmt, vet, staticcheck and the rules for imports, comments and lines
	@deploy/lint.sh

check: need-go ## run lint, go mod tidy and the race detector
	@deploy/check.sh

bench: need-go ## measure scans and pushes, compared with a client without a database; JSON=file BIG=no
	@cd test/bench/scan && GOWORK=off go run .

# Loading a million repositories takes some twenty minutes and 40 GB of disk. DATA keeps them
# for the next run.
bench-search: need-go ## measure searches of a large book; REPOS=1000000 JSON=file PICTURE=file DATA=folder
	@cd test/bench/search && GOWORK=off go run .

# One after the other. zot is not built here: doc/performance.md says how.
bench-peers: need-go ## compare searches with those of zot; ZOT=program REPOS=1000 TAGS=5 JSON=file PICTURE=file
	@cd test/bench/peers && GOWORK=off go run .

# Pushing and scanning 30,000 tags first takes some minutes. BOOK uses a book that
# bench-search has kept in DATA instead.
bench-pages: need-go ## measure every page of a book of 10,000 repositories; JSON=file DATA=folder BOOK=name
	@cd test/bench/pages && GOWORK=off go run .

bench-login: need-go ## measure logins: tokens for the registry, searches and pages of those who are logged in, a flood of logins; JSON=file
	@cd test/bench/login && GOWORK=off go run .

bench-usage: need-go ## measure how many pulls a second are taken in, and how they delay pushes; JSON=file
	@cd test/bench/usage && GOWORK=off go run .

bench-manage: need-go ## measure the deletion of a repository by an operation, beside the registry's own; JSON=file
	@cd test/bench/manage && GOWORK=off go run .

bench-plans: need-go ## measure plans of retention, and searches meanwhile; REPOS=100000 TAGS=10000 JSON=file
	@cd test/bench/plans && GOWORK=off go run .

bench-sweep: need-go ## measure a look at the storage of a registry; BLOBS=100000 JSON=file
	@cd test/bench/sweep && GOWORK=off go run .

# Status 3: a tool is missing, but perhaps none that screenshots need.
screenshots: need-go ## write screenshots of every page to screenshots/
	@deploy/prerequisites.sh || [ $$? = 3 ]
	@cd test/browser && GOWORK=off go run .

golden: need-go ## rewrite the golden files; review the differences before you commit them
	@mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg
	@for dir in $$(grep -rl --include='*_test.go' 'flag.Bool("update"' indexer schema | xargs -r -n1 dirname | sort -u); do \
		echo "== $$dir"; .run/withpg go test "./$$dir" -update || exit 1; done

# Go before 1.21 cannot read our go.mod, and its error does not say so. Later versions
# download the release that they need.
need-go:
	@command -v go >/dev/null || { echo "Portbook needs Go 1.26 or later: https://go.dev/dl/" >&2; exit 1; }
	@go version | awk '{ split(substr($$3, 3), v, "."); if (v[1] == 1 && v[2]+0 < 21) exit 1 }' || \
		{ echo "Portbook needs Go 1.26 or later, this is $$(go version): https://go.dev/dl/" >&2; exit 1; }

# What people do with this repository. Each target gets what it needs by itself;
# the work is done by the programs and scripts in deploy/.
.DEFAULT_GOAL := help
.PHONY: help up test lint check bench bench-search bench-pages screenshots golden need-go

# An address, a folder and yes or no; empty takes the default of deploy/up.
ADDR    ?=
DATA    ?=
SAMPLES ?=

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo
	@echo "  make up ADDR=127.0.0.1:7080 DATA=folder SAMPLES=no"

# exec: a signal for make reaches the launcher and not a shell in between.
up: need-go ## run everything on this machine; Ctrl-C stops it
	@mkdir -p .run && go build -buildvcs=false -o .run/up ./deploy/up && \
	exec .run/up $(if $(ADDR),-addr '$(ADDR)') $(if $(DATA),-data '$(DATA)') $(if $(SAMPLES),-samples '$(SAMPLES)')

test: need-go ## run all tests, with real clients
	@deploy/test.sh

lint: need-go ## gofmt, vet, staticcheck, imports, doc comments, width of lines
	@deploy/lint.sh

check: need-go ## lint, tidy, race detector
	@deploy/check.sh

bench: need-go ## measure, beside a client that keeps nothing; JSON=file BIG=no
	@cd test/bench/scan && GOWORK=off go run .

# A million repositories take half an hour to load and 40 GB of disk, which DATA
# keeps for the next run.
bench-search: need-go ## measure searches of a big book; REPOS=1000000 JSON=file DATA=folder
	@cd test/bench/search && GOWORK=off go run .

# 30,000 tags are pushed and scanned first, which takes some minutes; BOOK names
# one that bench-search has kept in DATA instead.
bench-pages: need-go ## measure every page of a book of 10,000 repositories; JSON=file DATA=folder BOOK=name
	@cd test/bench/pages && GOWORK=off go run .

# 3: a test is left out for want of a tool, maybe of one that pictures do not need.
screenshots: need-go ## write pictures of every page to screenshots/
	@deploy/prerequisites.sh || [ $$? = 3 ]
	@cd test/browser && GOWORK=off go run .

golden: need-go ## rewrite the golden files; look at the difference before you commit it
	@mkdir -p .run && go build -buildvcs=false -o .run/withpg ./deploy/withpg
	@for dir in $$(grep -rl --include='*_test.go' 'flag.Bool("update"' indexer schema | xargs -r -n1 dirname | sort -u); do \
		echo "== $$dir"; .run/withpg go test "./$$dir" -update || exit 1; done

# Go older than 1.21 cannot read our go.mod and says so in riddles; newer ones
# fetch the release that they need by themselves.
need-go:
	@command -v go >/dev/null || { echo "Portbook needs Go 1.26 or later: https://go.dev/dl/" >&2; exit 1; }
	@go version | awk '{ split(substr($$3, 3), v, "."); if (v[1] == 1 && v[2]+0 < 21) exit 1 }' || \
		{ echo "Portbook needs Go 1.26 or later, this is $$(go version): https://go.dev/dl/" >&2; exit 1; }

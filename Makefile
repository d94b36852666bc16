# Sekisho's frame: every target works as root and without, and says what it leaves out.
#
#   sudo make lab    the main job, live, in network namespaces: attacks, bans, a lock-out that the kernel undoes
#   make test        all tests (as root: the kernel's too)

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

# sudo drops the PATH that go is in.
export PATH := $(PATH):/usr/local/go/bin:/usr/lib/go/bin:/usr/lib/golang/bin:/snap/bin
GO ?= $(shell command -v go || { [ -n "$${SUDO_USER:-}" ] && su - "$$SUDO_USER" -c 'command -v go' 2>/dev/null; } || echo go)
# Some distributions' go does not fetch the toolchain that go.mod asks for.
export GOTOOLCHAIN ?= auto

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# When this was changed last: the one time in packages.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# The owner of the tree keeps what root builds in it.
OWNER := $(shell stat -c %u:%g .)
KEEP_OWNER = if [ "$$(id -u)" = 0 ]; then for d in bin dist; do [ ! -e $$d ] || chown -R $(OWNER) $$d; done; fi

GOLANGCI_LINT := v2.13.1
GOVULNCHECK   := v1.6.0
TEMPL         := v0.3.1020
CYCLONEDX     := v1.10.0
FUZZTIME      ?= 30s
COVER         ?= $(addprefix ./internal/,config fail2ban gate/api guard lease oidc passkey prefixset printable sshkey sshlog sshsig)
CRASH_RUNS    ?= 1000
GATE_CRASH_RUNS ?= 500
LAB_ARGS      ?=
BENCH_ARGS    ?=
LAMBDA_ARCH   ?= arm64
# Not from the environment, where it may be anything.
CONFIG        :=
KERNELS       ?= bullseye bookworm trixie
SYSTEMS       ?= bookworm trixie noble
PACKAGE_SYSTEMS ?= bullseye bookworm trixie
PACKAGE_ARCHS ?= amd64 arm64
AWS_PACKAGES  ?= ./internal/securitygroup/... ./internal/access/...

# Without symbols, functions 16 bytes apart, and inlined only in what is fast (the way of an
# attack, and reading a log), not in what waits for people or networks anyway: 2 MB less.
FAST       := $(addprefix sekisho/internal/,cli country daemon firewall guard lease logsource prefixset printable special sshlog store) \
	github.com/google/nftables/... github.com/mdlayher/... github.com/oschwald/...
LDFLAGS    := -s -w -funcalign=16
BUILDFLAGS := -trimpath -buildvcs=false $(foreach p,sekisho/... github.com/... charm.land/...,-gcflags='$p=-l') $(FAST:%=-gcflags='%=')
SIZE_LIMIT := 32000000
BINARY     := bin/sekisho

DESTDIR ?=
PREFIX  ?= /usr/local

.PHONY: help deps bench-deps kernel-deps systemd-deps moto-deps build size man lambda test test-kernels test-systemd test-moto test-aws test-crash lint bench bench-gate bench-peers lab completion install uninstall packages test-packages cover fuzz fuzz-some generate clean go

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

go:
	@command -v $(GO) >/dev/null || { echo "go is not found: install it from https://go.dev/dl/ or your distribution" >&2; exit 1; }

deps: ## install what the lab and the tests need (apt-get, dnf, yum)
	@.ci/deps test

bench-deps: deps ## install fail2ban, SSHGuard and CrowdSec, to compare with
	@.ci/deps bench

kernel-deps: ## install qemu, for test-kernels
	@.ci/deps kernels

systemd-deps: ## install mmdebstrap, for test-systemd
	@.ci/deps systemd

moto-deps: ## install mmdebstrap, for test-moto
	@.ci/deps moto

build: go ## build bin/sekisho, static
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -ldflags '$(LDFLAGS) -X sekisho/internal/cli.version=$(VERSION)' -o $(BINARY) ./cmd/sekisho
	@$(KEEP_OWNER)

size: build ## hold bin/sekisho to less than 32 MB
	@size=$$(stat -c %s bin/sekisho); echo "bin/sekisho: $$size bytes, at most $(SIZE_LIMIT)"; [ $$size -le $(SIZE_LIMIT) ]

man: go ## write the manual's pages to bin/man; SOURCE_DATE_EPOCH dates them
	rm -rf bin/man
	$(GO) run ./internal/manual/pages $(VERSION) docs/configuration.md bin/man
	@$(KEEP_OWNER)

lambda: go ## build bin/sekisho-lambda.zip; LAMBDA_ARCH=arm64 or amd64, CONFIG=FILE (lambda/README.md)
	@mkdir -p bin
	GOOS=linux GOARCH=$(LAMBDA_ARCH) CGO_ENABLED=0 $(GO) build -tags lambda.norpc -trimpath -buildvcs=false -ldflags '-s -w' -o bin/bootstrap ./lambda
	$(GO) run ./lambda/pack bin/sekisho-lambda.zip bin/bootstrap $(if $(CONFIG),"$(CONFIG)")
	@rm bin/bootstrap; $(KEEP_OWNER)

lab: deps build ## show the main job, live (root)
	bin/sekisho lab $(LAB_ARGS)

test: go ## run all tests; as root the kernel's too
	@if [ "$$(id -u)" = 0 ]; then .ci/deps test; else .ci/deps missing; fi
	$(GO) vet ./...
	@race=-race; cgo=1; \
	if ! command -v gcc >/dev/null && ! command -v cc >/dev/null; then \
		race=; cgo=0; echo "*** NO C COMPILER: the tests run WITHOUT the race detector (make deps installs gcc) ***" >&2; \
	fi; \
	mkdir -p bin; CGO_ENABLED=0 $(GO) build -o bin/leftout ./internal/leftout; $(KEEP_OWNER); \
	side="-p $$(($$(nproc) + 1))"; echo "CGO_ENABLED=$$cgo $(GO) test $$race $$side ./..."; \
	CGO_ENABLED=$$cgo $(GO) test -json $$race $$side ./... | bin/leftout # much of it waits

test-kernels: go ## run the kernel's tests in Linux 5.10, 6.1 and 6.12, emulated (docs/kernels.md)
	@if [ "$$(id -u)" = 0 ]; then .ci/deps kernels; fi
	@rc=0; GO=$(GO) .ci/kernels $(KERNELS) || rc=$$?; $(KEEP_OWNER); exit $$rc

test-systemd: go ## run the tests under systemd, in whole systems of Debian and Ubuntu (root; docs/systemd.md)
	@if [ "$$(id -u)" = 0 ]; then .ci/deps systemd; fi
	@rc=0; GO=$(GO) .ci/systemd $(SYSTEMS) || rc=$$?; $(KEEP_OWNER); exit $$rc

test-moto: go ## run what speaks to EC2 against moto, in a root of Debian sid (root)
	@if [ "$$(id -u)" = 0 ]; then .ci/deps moto; fi
	@rc=0; GO=$(GO) .ci/moto || rc=$$?; $(KEEP_OWNER); exit $$rc

test-aws: go ## run what speaks to EC2 against your AWS account, in security groups that it makes and removes
	@if [ -z "$${AWS_ACCESS_KEY_ID:-}$${AWS_PROFILE:-}" ] || [ -z "$${AWS_REGION:-$${AWS_DEFAULT_REGION:-}}" ]; then \
		echo "test-aws needs an AWS account: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION; SEKISHO_TEST_EC2_VPC names a VPC other than the default one" >&2; exit 2; \
	fi; \
	mkdir -p bin; CGO_ENABLED=0 $(GO) build -o bin/leftout ./internal/leftout; $(KEEP_OWNER); \
	SEKISHO_TEST_EC2_KIND=aws $(GO) test -count=1 -timeout 60m -json $(AWS_PACKAGES) | bin/leftout

test-crash: go ## open, use and shut targets 1,000 times (CRASH_RUNS), with a kill -9 in each, and 500 times at a gate (GATE_CRASH_RUNS)
	SEKISHO_TEST_CRASH_RUNS=$(CRASH_RUNS) $(GO) test -count=1 -timeout 60m -v -run '^TestAccessCrash$$' ./cmd/sekisho
	SEKISHO_TEST_CRASH_RUNS=$(GATE_CRASH_RUNS) $(GO) test -count=1 -timeout 60m -v -run '^TestCrash' ./internal/gate

cover: go ## print how many of the statements the tests reach, of what reads strangers' bytes and decides; COVER=./... of all
	@mkdir -p bin; $(GO) test -coverprofile=bin/cover.out $(COVER) | awk '$$1 == "ok" {print "coverage:", $$2, $$5}'
	@$(GO) tool cover -func=bin/cover.out | awk '/^total:/ {print "coverage: all of these", $$NF}'; $(KEEP_OWNER)

fuzz: go ## fuzz each target for FUZZTIME (30s)
	GO=$(GO) .ci/fuzz $(FUZZTIME)

fuzz-some: go ## fuzz some of the targets, as a commit's turn has it, for a minute or so in all
	GO=$(GO) .ci/fuzz 2s 40

generate: go ## make *_templ.go anew after a change of *.templ (its version is go.mod's)
	$(GO) run github.com/a-h/templ/cmd/templ@$(TEMPL) generate -path internal/notify/message
	$(GO) run github.com/a-h/templ/cmd/templ@$(TEMPL) generate -path internal/gate/web/page

lint: go ## gofmt, golangci-lint, govulncheck
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l cmd internal lambda packaging); if [ -n "$$unformatted" ]; then echo "gofmt -w:" $$unformatted >&2; exit 1; fi
	@linter=bin/golangci-lint; there="$$($(GO) env GOPATH)/bin/golangci-lint"; want="version $(GOLANGCI_LINT:v%=%) "; \
	if [[ "$$("$$there" --version 2>/dev/null || true)" == *"$$want"* ]]; then linter=$$there; fi; \
	if [[ "$$($$linter --version 2>/dev/null || true)" != *"$$want"* ]]; then \
		echo "installing golangci-lint $(GOLANGCI_LINT) in bin (some minutes, once)"; \
		GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT); $(KEEP_OWNER); \
	fi; \
	$$linter run ./...
	@rc=0; out=$$(timeout 300 $(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) ./... 2>&1) || rc=$$?; \
	if [ $$rc = 0 ]; then echo "govulncheck: no known vulnerability reaches us"; \
	elif [[ "$$out" == *"Vulnerability #"* ]]; then echo "$$out" >&2; exit 1; \
	else echo "*** govulncheck LEFT OUT (its database could not be reached?): $$(grep -m 1 '^govulncheck:' <<<"$$out" || tail -n 1 <<<"$$out") ***" >&2; fi

bench: build ## print all figures beside fail2ban's and SSHGuard's; BENCH_DOC=1 keeps them
	@$(GO) build -o bin/bench ./internal/bench
	@$(GO) test -c -o bin/firewall.test ./internal/firewall
	@$(KEEP_OWNER)
	bin/bench -sekisho bin/sekisho -floods bin/firewall.test $(if $(BENCH_DOC),-doc docs/benchmarks.md) $(BENCH_ARGS)

bench-gate: go ## print a gate's figures: opens a second, pages, a host's kernel, and the memory of a thousand hosts (root: the kernel's too)
	$(GO) test -run '^TestThousandHosts$$' -bench . -benchmem -v ./internal/gate ./internal/gate/hosts ./internal/gate/web ./internal/ledger | grep -E '^(goos|cpu|Benchmark.*[0-9] ns/op|---|ok|FAIL|panic)|MB|LEFT OUT'

bench-peers: build ## compare with fail2ban, SSHGuard and CrowdSec, in rounds (root, half an hour; BENCH_ARGS=-short: four minutes); BENCH_DOC=1 keeps table and plots
	@if [ "$$(id -u)" = 0 ]; then .ci/deps bench; fi
	@$(GO) build -o bin/bench ./internal/bench
	@$(KEEP_OWNER)
	bin/bench -peers -sekisho bin/sekisho $(if $(BENCH_DOC),-doc docs/benchmarks.md) $(BENCH_ARGS)

completion:
	@[ -x bin/sekisho ] || { echo "bin/sekisho is not there: run make build first" >&2; exit 1; }
	@mkdir -p bin/completion
	@bin/sekisho completion bash > bin/completion/sekisho
	@bin/sekisho completion zsh > bin/completion/_sekisho
	@bin/sekisho completion fish > bin/completion/sekisho.fish
	@$(KEEP_OWNER)

install: completion ## install what packaging/files names (after make build), and start anew what runs of it
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" packaging/install.sh install

uninstall: ## take it away, rules and bans too, but for the configuration and the state
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" packaging/install.sh uninstall

# Empty what the environment may bring: the same sources and the same Go are to give the same bytes.
packages: export GOFLAGS :=
packages: export GOAMD64 := v1
packages: export GOARM64 := v8.0
packages: export GOEXPERIMENT :=
packages: build completion ## make .deb, .rpm, .tar.gz, their sums and what is in them, for amd64 and arm64, in dist (docs/packages.md)
	@GO=$(GO) VERSION="$(VERSION)" SOURCE_DATE_EPOCH="$(SOURCE_DATE_EPOCH)" CYCLONEDX=$(CYCLONEDX) MAKE=$(MAKE) packaging/build.sh $(PACKAGE_ARCHS)
	@$(KEEP_OWNER)

test-packages: ## install, upgrade, remove and purge the packages in roots of Debian (root; docs/packages.md)
	@if [ "$$(id -u)" = 0 ]; then .ci/deps packages; fi
	@rc=0; GO=$(GO) .ci/packages $(PACKAGE_SYSTEMS) || rc=$$?; $(KEEP_OWNER); exit $$rc

clean: ## remove bin and dist
	rm -rf bin dist

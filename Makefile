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
# The owner of the tree keeps what root builds in it.
OWNER := $(shell stat -c %u:%g .)
KEEP_OWNER = if [ "$$(id -u)" = 0 ]; then chown -R $(OWNER) bin; fi

GOLANGCI_LINT := v2.13.1
GOVULNCHECK   := v1.6.0
TEMPL         := v0.3.1020
FUZZTIME      ?= 30s
CRASH_RUNS    ?= 1000
GATE_CRASH_RUNS ?= 500
LAB_ARGS      ?=
BENCH_ARGS    ?=
LAMBDA_ARCH   ?= arm64
# Not from the environment, where it may be anything.
CONFIG        :=
KERNELS       ?= bullseye bookworm trixie
SYSTEMS       ?= bookworm trixie noble
AWS_PACKAGES  ?= ./internal/securitygroup/... ./internal/access/...

DESTDIR ?=
PREFIX  ?= /usr/local
BINDIR  := $(PREFIX)/bin
ETCDIR  := /etc/sekisho
UNITDIR := $(PREFIX)/lib/systemd/system
SHARE   := $(PREFIX)/share

.PHONY: help deps bench-deps kernel-deps systemd-deps moto-deps build lambda test test-kernels test-systemd test-moto test-aws test-crash lint bench lab install uninstall fuzz generate clean go

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

go:
	@command -v $(GO) >/dev/null || { echo "go is not found: install it from https://go.dev/dl/ or your distribution" >&2; exit 1; }

deps: ## install what the lab and the tests need (apt-get, dnf, yum)
	@.ci/deps test

bench-deps: deps ## install fail2ban and SSHGuard, to compare with
	@.ci/deps bench

kernel-deps: ## install qemu, for test-kernels
	@.ci/deps kernels

systemd-deps: ## install mmdebstrap, for test-systemd
	@.ci/deps systemd

moto-deps: ## install mmdebstrap, for test-moto
	@.ci/deps moto

build: go ## build bin/sekisho, static
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X sekisho/internal/cli.version=$(VERSION)' -o bin/sekisho ./cmd/sekisho
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
	echo "CGO_ENABLED=$$cgo $(GO) test $$race ./..."; \
	CGO_ENABLED=$$cgo $(GO) test -json $$race ./... | bin/leftout

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

fuzz: go ## fuzz each target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "fuzz $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

generate: go ## make *_templ.go anew after a change of *.templ (its version is go.mod's)
	$(GO) run github.com/a-h/templ/cmd/templ@$(TEMPL) generate -path internal/notify/message
	$(GO) run github.com/a-h/templ/cmd/templ@$(TEMPL) generate -path internal/gate/web/page

lint: go ## gofmt, golangci-lint, govulncheck
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l cmd internal lambda); if [ -n "$$unformatted" ]; then echo "gofmt -w:" $$unformatted >&2; exit 1; fi
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

install: ## install the binary, its unit, an example configuration and completions (after make build)
	@[ -x bin/sekisho ] || { echo "bin/sekisho is not there: run make build first" >&2; exit 1; }
	install -D -m 0755 bin/sekisho $(DESTDIR)$(BINDIR)/sekisho
	install -d -m 0755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(ETCDIR) $(DESTDIR)$(SHARE)/doc/sekisho
	for unit in sekisho.service sekisho-firewall.service sekisho-sshd.service sekisho-reap.service sekisho-reap.timer sekisho-gate.service; do \
		sed 's|/usr/local/|$(PREFIX)/|' contrib/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	install -D -m 0644 contrib/systemd/sekisho.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/sekisho.conf
	install -m 0644 README.md README.ja.md LICENSE NOTICE $(DESTDIR)$(SHARE)/doc/sekisho
	install -m 0644 contrib/sekisho.yaml $(DESTDIR)$(SHARE)/doc/sekisho/sekisho.yaml
	install -D -m 0644 -t $(DESTDIR)$(SHARE)/doc/sekisho/docs docs/*.md
	install -D -m 0644 contrib/grafana/sekisho.json $(DESTDIR)$(SHARE)/sekisho/grafana/sekisho.json
	install -d -m 0755 $(DESTDIR)$(SHARE)/bash-completion/completions $(DESTDIR)$(SHARE)/zsh/site-functions $(DESTDIR)$(SHARE)/fish/vendor_completions.d
	bin/sekisho completion bash > $(DESTDIR)$(SHARE)/bash-completion/completions/sekisho
	bin/sekisho completion zsh > $(DESTDIR)$(SHARE)/zsh/site-functions/_sekisho
	bin/sekisho completion fish > $(DESTDIR)$(SHARE)/fish/vendor_completions.d/sekisho.fish
	@if [ -z "$(DESTDIR)" ]; then \
		getent group sekisho >/dev/null || groupadd --system sekisho; \
		systemctl daemon-reload 2>/dev/null || true; \
		echo "next: sekisho init (it writes $(ETCDIR)/sekisho.yaml), then: systemctl enable --now sekisho, sekisho plan, sekisho apply"; \
	fi

uninstall: ## take away what install put there, but for the configuration and the state
	rm -f $(DESTDIR)$(BINDIR)/sekisho $(DESTDIR)$(UNITDIR)/sekisho.service $(DESTDIR)$(UNITDIR)/sekisho-firewall.service $(DESTDIR)$(UNITDIR)/sekisho-sshd.service $(DESTDIR)$(UNITDIR)/sekisho-reap.service $(DESTDIR)$(UNITDIR)/sekisho-reap.timer $(DESTDIR)$(UNITDIR)/sekisho-gate.service $(DESTDIR)$(PREFIX)/lib/sysusers.d/sekisho.conf $(DESTDIR)$(SHARE)/bash-completion/completions/sekisho \
		$(DESTDIR)$(SHARE)/zsh/site-functions/_sekisho $(DESTDIR)$(SHARE)/fish/vendor_completions.d/sekisho.fish
	rm -rf $(DESTDIR)$(SHARE)/doc/sekisho $(DESTDIR)$(SHARE)/sekisho

clean: ## remove bin
	rm -rf bin

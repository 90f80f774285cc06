# Everything a developer runs. Each target finds Go (or gets it, see testdata/need-go.sh) by itself.
# Slow things never go into `make test`: it must stay below 20 minutes on two cores; they go into `make soak`.

SHELL    := /bin/bash
PREFIX   ?= /usr/local
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Puts a Go that is new enough first in PATH, or stops with a message.
WITH_GO   = go_bin=$$(testdata/need-go.sh) && export PATH="$$go_bin:$$PATH" GOTOOLCHAIN=local
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

.PHONY: recipes test-completions test-units help build deps demo test test-host bench bench-docs soak fuzz testvm testvm-shell packages test-packages install clean

help:
	@echo 'make build         the binary ./snapdiff (static, no cgo)'
	@echo 'make demo          the whole story on a throw-away filesystem (root)'
	@echo 'make test          everything, ZFS and LVM in the test machine included (root, below 20 minutes)'
	@echo 'make test-host     the same without the test machine: ZFS and LVM are NOT tested'
	@echo 'make soak          long random tests, for hours if need be: make soak MINUTES=120'
	@echo 'make fuzz          every fuzz target for a while: make fuzz SECONDS=60'
	@echo 'make bench         speed against the floor, rsync and btrfs send: make bench ARGS="-files 1000000"'
	@echo 'make bench-docs    all peers and all growth, for hours, into tables and a plot in ./docs (ARGS="-gate LOCK")'
	@echo 'make testvm-shell  a shell in the test machine that has ZFS and LVM'
	@echo 'make packages      .deb and .rpm for amd64 and arm64 into ./dist; make test-packages tries them'
	@echo 'make recipes       the recipes of docs/recipes.md with the real programs (ssh, restic, borg, Dovecot...; root)'
	@echo 'make test-completions  what bash, zsh and fish offer, in the real shells (root)'
	@echo 'make test-units    the systemd units under a real systemd, in the test machine, from btrfs, ZFS and LVM (root)'
	@echo 'make install       PREFIX=/usr/local DESTDIR='

build:
	@$(WITH_GO) && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o snapdiff ./cmd/snapdiff

demo: build
	@./snapdiff demo

test:
	@$(WITH_GO) && testdata/test.sh all

test-host:
	@$(WITH_GO) && testdata/test.sh host

bench: build
	@testdata/need-tools.sh && $(WITH_GO) && go run -buildvcs=false ./cmd/bench -snapdiff ./snapdiff $(ARGS)

# Every figure is added to a file first: what was measured before an interruption is not lost, and the last line alone can be run again.
FIGURES ?= /var/tmp/snapdiff-bench-figures.jsonl
bench-docs: build
	@testdata/need-tools.sh peers && $(WITH_GO) && rm -f $(FIGURES) && go build -buildvcs=false -o bin/bench ./cmd/bench && \
	bin/bench -snapdiff ./snapdiff -files 1000000 -with all -save $(FIGURES) $(ARGS) && \
	bin/bench -snapdiff ./snapdiff -growth all -repeat 3 -save $(FIGURES) $(ARGS) && \
	bin/bench -save $(FIGURES) -report docs

soak:
	@testdata/need-tools.sh && $(WITH_GO) && testdata/soak.sh $(MINUTES)

fuzz:
	@$(WITH_GO) && testdata/fuzz.sh $(SECONDS)

testvm:
	@testdata/testvm/build.sh

testvm-shell: testvm
	@testdata/testvm/shell.sh

packages:
	@$(WITH_GO) && rm -rf dist && cmd/snapdiff/packaging/build.sh dist

test-packages: packages
	@$(WITH_GO) && testdata/packages-test.sh dist

recipes: build
	@testdata/recipes.sh ./snapdiff $(RECIPES)

test-completions: build
	@testdata/completions-test.sh ./snapdiff

test-units:
	@$(WITH_GO) && testdata/testvm/units-test.sh

deps:
	@testdata/need-tools.sh

install: build
	install -D -m 0755 snapdiff $(DESTDIR)$(PREFIX)/bin/snapdiff

clean:
	rm -rf snapdiff bin dist

# The two commands: make cluster, make test. Everything else is below `make help`.
MASTERS  ?= 3
PROVIDER ?= vm

CARGO ?= cargo
TARGET := target/x86_64-unknown-linux-gnu
LAB := $(TARGET)/debug/lab
IMAGEBUILD := $(TARGET)/debug/imagebuild

.PHONY: help setup image cluster down test soak bench lint clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install the Debian packages that the rest needs
	@scripts/setup

image: setup ## build/image: UKI, ISO and disk image, kernel, initrd, bill of materials
	$(CARGO) build --locked -p masthead-imagebuild
	$(IMAGEBUILD) build

cluster: image ## start a cluster: MASTERS=3, PROVIDER=vm|namespace
	$(CARGO) build --locked -p masthead-qemu-tests -p masthead-ctl
	$(LAB) up --masters $(MASTERS) --provider $(PROVIDER)

down: ## stop it, and leave nothing behind
	@if [ -x $(LAB) ]; then $(LAB) down; else echo "no cluster: the lab was never built"; fi

test: setup ## every test that CI runs
	scripts/test

soak: setup ## the long tests; a finished case is not run again
	scripts/soak

bench: setup ## the figures of docs/benchmarks.md; a finished case is not run again
	scripts/bench

lint: setup ## formatting, lints, licences and advisories
	scripts/lint

clean: down ## remove what was built
	rm -rf build target

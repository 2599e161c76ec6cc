# The commands of the project. Each sets up what it needs by itself (scripts/setup.sh).
# A Rust toolchain that setup.sh installs with rustup is in ~/.cargo/bin.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help build demo demo-down test test-quick test-compat test-faults fuzz lint docs docs-site recording bench clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

build: ## build the modules into library/
	scripts/setup.sh build
	cargo xtask install

demo: ## provision a machine on an embedded Proxmox VE test host, all six steps
	scripts/setup.sh build guest ansible
	cargo run $$([ -t 2 ] || echo --quiet) --release --package xtask -- demo up # with cargo's progress on a terminal

demo-down: ## stop what `make demo` left running and remove it
	cargo xtask demo down

test: ## all tests but those of the site, of the whole kill matrix and of other ansible-cores
	scripts/test.sh

test-quick: ## the same without virtual machines
	scripts/test.sh quick

test-faults: ## the kill matrix: the play stopped at every point and run again (an hour or more)
	scripts/test.sh faults

test-compat: ## the modules and the role with the oldest and the newest ansible-core
	scripts/test-compat.sh

fuzz: ## property tests from a new seed, and the fuzz targets (most of an hour)
	scripts/fuzz.sh

lint: ## formatting and linters
	scripts/setup.sh build ansible test
	scripts/test.sh lint

docs: ## write library/*.yml and docs/reference from the modules' types
	cargo xtask docs

docs-site: ## build the documentation as a web site, target/site/index.html
	scripts/setup.sh site
	cargo xtask site

recording: ## make docs/recording.svg, the picture of the README, from a run of the play
	scripts/setup.sh build guest ansible recording
	cargo xtask install
	cargo build --quiet --release --package pve-testhost
	.venv/bin/python testing/recording/record.py

bench: ## measure against community.proxmox and curl, the role first (a quarter of an hour; docs/benchmarks.md)
	testing/bench/bench-role.sh
	testing/bench/bench-scale.sh
	testing/bench/bench-inventory.sh
	testing/bench/bench.sh

clean: ## remove everything that was built
	[ ! -e "$${NIXOS_PROXMOX_DEMO_DIR:-.demo}" ] || $(MAKE) demo-down
	rm -rf target .programs
	find library -type l -delete

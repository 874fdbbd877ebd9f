# SPDX-License-Identifier: GPL-2.0
# embrfs: what a person types. Every target does the set-up that it needs; `make help` lists them.
# (The kernel's build system reads Kbuild, not this file.)

SHELL := /bin/bash
.DEFAULT_GOAL := help
LANES := stock um-lockdep um-kasan
IN := scripts/in-root
export EMBRFS_T := $(T)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '  make %-12s %s\n' "$$t" "$$d"; done
	@echo
	@echo '  T=pattern        with test, mutants: only those whose name has this in it'
	@echo '  LANE=stock       with module: for which kernel (stock, um-lockdep, um-kasan, um-bench)'
	@echo '  EMBRFS_CACHE     where the build root, kernels and builds lie (default ~/.cache/embrfs)'
	@echo '  DEBIAN_MIRROR    Debian mirror, where the machine has none configured'
	@echo '  REFRESH=1        with setup: look for a newer kernel on the mirror'

.PHONY: setup
setup: ## Make the build root and the three kernels that the tests use
	@scripts/setup $(LANES)

.PHONY: demo
demo: ## Show the filesystem at its main job, in a virtual machine with six disks
	@scripts/setup stock -- scripts/build stock -- $(IN) qemu/run-guest --lane stock --disks '256M*6' --stream tests/demo.sh

.PHONY: test
test: ## Run all tests (T=pattern: some)
	@scripts/setup $(LANES) -- scripts/test

.PHONY: check
check: ## Run only the static checks: format, lints, layers, licences, stack frames
	@scripts/setup $(LANES) -- scripts/check

.PHONY: build
build: ## Build the tools and the module for every kernel of the tests
	@scripts/setup $(LANES) -- scripts/build $(LANES)

.PHONY: module
module: ## Build the module for one kernel (LANE=stock)
	@scripts/setup $(or $(LANE),stock) -- scripts/build-module $(or $(LANE),stock)

.PHONY: vm
vm: ## Open a virtual machine with the module, the tools and six blank disks
	@scripts/setup stock -- scripts/build stock -- $(IN) qemu/vm

# Not under the lock: one works beside it.
.PHONY: shell
shell: ## Open a shell in the build root
	@scripts/setup
	@$(IN) bash

.PHONY: fetch
fetch: ## Fetch the BLAKE3 assembly, for builds outside the build root
	@scripts/setup -- scripts/fetch-blake3

.PHONY: man
man: ## Write the manual pages to the cache's man directory
	@scripts/setup -- $(IN) cargo run --release --locked -q --bin embrfs-man /cache/man

.PHONY: bench
bench: export EMBRFS_SEED := $(SEED)
bench: ## Measure: hashing, and the engine: large, with snapshots, nearly full, of a TiB, parity (T=keys, names, recovery, snapshots, full, size, parity: some; SEED=...)
	@scripts/setup um-bench -- scripts/bench

.PHONY: sim
sim: export EMBRFS_SEED := $(SEED)
sim: export EMBRFS_STATES := $(STATES)
sim: export EMBRFS_LOST := $(LOST)
sim: export EMBRFS_MUTANT := $(MUTANT)
sim: ## Look at crash states of the engine in the simulator (STATES=20000, SEED=..., LOST=4+2, MUTANT=tests/mutants/...)
	@scripts/setup -- scripts/sim

.PHONY: full
full: export EMBRFS_SEED := $(SEED)
full: export EMBRFS_CYCLES := $(CYCLES)
full: ## Fill volumes to the last block and delete, again and again, with snapshots and without (CYCLES=200, SEED=...)
	@scripts/setup -- scripts/full

.PHONY: kill
kill: ## Kill guests under load, again and again, and look at what they leave (ROUNDS=50, LANE=um-lockdep)
	@scripts/setup $(or $(LANE),um-lockdep) -- scripts/build $(or $(LANE),um-lockdep) -- scripts/kill $(or $(LANE),um-lockdep) $(or $(ROUNDS),50)

.PHONY: coverage
coverage: ## Count which lines of the engine the tests of all crates run
	@scripts/setup -- scripts/coverage

.PHONY: fuzz
fuzz: ## Fuzz the parsers with libFuzzer (MINUTES=1)
	@scripts/setup -- scripts/fuzz $(or $(MINUTES),1)

.PHONY: mutants
mutants: ## Put deliberate faults into the engine: its tests must catch each (T=pattern: some)
	@scripts/setup -- scripts/mutants

.PHONY: clean
clean: ## Remove what was built from this checkout; kernels and build root stay
	@scripts/clean builds

.PHONY: distclean
distclean: ## Remove the whole cache: build root, kernels, builds
	@scripts/clean all

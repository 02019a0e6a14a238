# Flotilla's own chores. Deploying is ansible-playbook's: see README.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The inventory whose hosts the lab plays, the lab's name, and the version that the demo ships.
ENV ?= staging
LAB ?= flotilla
VERSION ?= 1.0.0
HTTPS_PORT ?= 8443
HTTP_PORT ?= 8080

# `make test`: after how many minutes it stops (0: never), and the changed paths that it is about (none: everything).
MINUTES ?= 0
PATHS ?=

SCENARIOS := $(wildcard roles/*/molecule/*/molecule.yml)
ROLES := $(sort $(foreach path,$(SCENARIOS),$(word 2,$(subst /, ,$(path)))))
RUN := python -m tests.run
INVENTORY := -i inventories/$(ENV)
OVERLAY := -i .lab/$(LAB)/$(ENV)
LAB_PLAYBOOK := ansible-playbook playbooks/lab.yml -e lab_name=$(LAB)

# Outside the checkout, so that a fresh clone has what an earlier one found out.
CACHE := $(or $(FLOTILLA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flotilla)
export MYPY_CACHE_DIR := $(CACHE)/mypy
export RUFF_CACHE_DIR := $(CACHE)/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MOLECULE_COMMAND_BORDERS := false
# What was compiled once is read by the next process: Ansible starts many.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## install what is missing: the virtual environment, and on Debian as root the engine
	@tests/lab/bootstrap

.PHONY: lab-up
lab-up: venv ## bring up the lab's droplets for the hosts of inventories/$ENV (ENV=staging)
	$(LAB_PLAYBOOK) $(INVENTORY) -e lab_https_port=$(HTTPS_PORT) -e lab_http_port=$(HTTP_PORT) \
	    -e '{"lab_app_versions": ["$(VERSION)"]}'

.PHONY: lab-secrets
lab-secrets:
	ansible-playbook playbooks/secrets.yml $(INVENTORY) $(OVERLAY) -e @.lab/$(LAB)/given_secrets.yml

.PHONY: lab-down
lab-down: venv ## remove everything that lab-up and demo made
	$(LAB_PLAYBOOK) -e lab_state=absent

.PHONY: demo
demo: lab-up ## from nothing to the sample app over HTTPS; VERSION=1.1.0 ships another version
	@echo "== Making the lab's own secrets"
	@$(MAKE) lab-secrets
	@echo "== Deploying $(VERSION) to inventories/$(ENV)"
	ansible-playbook deploy.yml $(INVENTORY) $(OVERLAY) -e version=$(VERSION)
	@tests/lab/served.py .lab/$(LAB)

.PHONY: check
check: venv ## lint, types and unit tests
	$(RUN) check

.PHONY: lint
lint: venv ## ruff, yamllint, ansible-lint, role tables
	ruff check
	ruff format --check
	yamllint --strict .
	python -m tests.run.unchanged ansible-lint --offline
	python tests/docs/role_tables.py --check

.PHONY: types
types: venv ## mypy, strict
	mypy plugins tests roles

.PHONY: units
units: venv ## unit tests
	$(RUN) units

.PHONY: images
images: venv ## build what the labs start from: base, droplet, registry, stand-ins
	$(LAB_PLAYBOOK) $(INVENTORY) -e lab_state=built

.PHONY: molecule
molecule: venv ## role tests, three scenarios at a time; molecule-<role> runs one role's
	$(RUN) molecule $(WHICH)

.PHONY: $(ROLES:%=molecule-%)
$(ROLES:%=molecule-%): molecule-%: venv
	$(RUN) molecule $* $(WHICH)

.PHONY: e2e
e2e: venv ## end-to-end tests, two labs at a time; FILES="tests/e2e/test_verbs.py …": these alone
	$(RUN) e2e $(FILES)

.PHONY: thorough
thorough: venv ## the tests that `make test` has no time for, and many examples; COLLECT=1 lists them
	$(RUN) thorough $(if $(COLLECT),--collect)

# The time that it gives itself begins before the virtual environment, which the runner needs.
.PHONY: test
test: ## everything that continuous integration runs; PATHS="roles/redis …": what changes of these affect
	@began=$$(date +%s.%N) && timeout --foreground $(MINUTES)m tests/lab/bootstrap && \
	    $(RUN) test --since "$$began" --minutes $(MINUTES) --paths "$(PATHS)"

.PHONY: soak
soak: soak-staging soak-balancer soak-eight ## under load: 20 releases of one host, 10 with 5 rollbacks of two, 3 of eight

.PHONY: soak-staging
soak-staging: venv
	FLOTILLA_DEPLOYS=$(or $(DEPLOYS),20) pytest tests/e2e/test_rolling_releases.py --timeout 3600 -s

.PHONY: soak-balancer
soak-balancer: venv
	FLOTILLA_DEPLOYS=10 FLOTILLA_ROLLBACKS=5 pytest tests/e2e/test_balancer.py -k releases --timeout 3600 -s

.PHONY: soak-eight
soak-eight: venv
	pytest tests/soak --timeout 3600 -s

.PHONY: faults
faults: venv ## every fault at every phase, on a fleet under load (takes hours); FAULTS="-k …": some
	pytest tests/faults --timeout 3600 -s $(FAULTS)

.PHONY: bench
bench: venv ## the measured figures, one a line; BENCH="--runs 1 …": its options
	python -m tests.benchmarks $(BENCH)

.PHONY: clean
clean: lab-down ## lab-down, and the images, the caches and the build's leftovers
	$(LAB_PLAYBOOK) -e lab_state=purged
	rm -rf build .pytest_cache .ansible $(CACHE)/passed $(MYPY_CACHE_DIR) $(RUFF_CACHE_DIR) $(HYPOTHESIS_STORAGE_DIRECTORY)

# DevNest: `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# pip compiles what it installs, but not what it only points to; where Python may not write bytecode itself
# (PYTHONDONTWRITEBYTECODE), each process would compile all of it anew.
COMPILE := $(BIN)/python -m compileall -q
# pip hides what a build prints; the import of devnest.bcrypt warns where the kernel is missing.
TELL_OF_LANES = $(BIN)/python -W error::RuntimeWarning -c 'import devnest.bcrypt' 2> /dev/null || \
  echo 'bcrypt runs without lanes, one hash at a time: install a C compiler, then run make clean and make again' >&2
SOURCES := pyproject.toml $(CONSTRAINTS) $(wildcard setup.py native/*.c native/*.h)

.DEFAULT_GOAL := help
.PHONY: help run demo test test-floors docs lint bench bench-before bench-enumeration bench-flood bench-idle bench-install bench-k6 bench-lanes bench-lift bench-load bench-pool bench-recovery bench-saturation bench-searching bench-soak bench-stalled bench-start clean pins

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## install into .venv and serve on http://127.0.0.1:8000 (SERVE="--port 8001" for more options)
	@exec $(BIN)/devnest serve $(SERVE)

demo: $(VENV)/.installed ## the same load before and after, in at most two minutes, with a picture and a report
	$(BIN)/devnest bench --demo

test: $(VENV)/.installed-dev ## install the development extra and run the whole test suite (TEST="-k posts" for less, TEST="-n 0" for one process)
	$(BIN)/python -m pytest $(TEST)

test-floors: ## the same on the lowest versions that pyproject.toml allows, in an environment of its own
	@mkdir -p .venv-floors && $(PYTHON) tests/floors.py > .venv-floors/constraints.txt
	$(MAKE) VENV=.venv-floors CONSTRAINTS=.venv-floors/constraints.txt test TEST="--deselect tests/test_documentation.py::test_what_is_installed_is_pinned $(TEST)"

bench-before: $(VENV)/.installed-bench ## the light routes of an earlier commit beside those of today (BEFORE="COMMIT --runs 3"; else before the accounts)
	$(BIN)/python benchmarks/before.py $(BEFORE)

bench-enumeration: $(VENV)/.installed ## refused sign-ins for unknown, wrong and disabled: do their times differ? (ENUMERATION="--cost 8" for more)
	$(BIN)/python benchmarks/enumeration.py $(ENUMERATION)

bench-flood: $(VENV)/.installed-bench ## sign-ins at ten times capacity beside honest clients (FLOOD="--extremes" for the choice of --hash-nice)
	$(BIN)/python benchmarks/flood.py $(FLOOD)

bench-idle: $(VENV)/.installed ## memory of an idle connection, and light requests beside 5,000 of them (about 80 s; IDLE="--rounds 1" for less)
	$(BIN)/python benchmarks/idle.py $(IDLE)

bench-install: $(VENV)/.installed ## packages, megabytes and seconds of each extra (INSTALL="--runs 1" for less)
	$(BIN)/python benchmarks/install.py $(INSTALL)

bench-lift: $(VENV)/.installed-bench ## FastAPI and Django under gunicorn, with and without the shared pool (LIFT="--runs 1" for less)
	$(BIN)/python benchmarks/lift.py $(LIFT)

bench-recovery: $(VENV)/.installed ## SIGKILL to each kind of process under a mixed load: what fails, and for how long (RECOVERY="--rounds 1" for less)
	$(BIN)/python benchmarks/recovery.py $(RECOVERY)

bench-saturation: $(VENV)/.installed-bench ## hashes through HTTP beside the kernel's; the light routes with one server and two (about three minutes)
	$(BIN)/python benchmarks/saturation.py $(SATURATION)
	$(BIN)/python benchmarks/routes.py --processes 1 2 $(BENCH)

bench-searching: $(VENV)/.installed-bench ## sign-ins while 40 clients search in 400 long posts (about two minutes; SEARCHING="--seconds 5" for less)
	$(BIN)/python benchmarks/searching.py $(SEARCHING)

bench-soak: $(VENV)/.installed ## half load for ten minutes, and the memory of every process (SOAK="--minutes 2" for less)
	$(BIN)/python benchmarks/soak.py $(SOAK)

bench-stalled: $(VENV)/.installed-bench ## memory of the servers under 200 clients that ask for the largest pages and do not read (STALLED="--clients 500" for more)
	$(BIN)/python benchmarks/stalled.py $(STALLED)

bench-start: $(VENV)/.installed ## from `devnest serve` to its ready line, on a new data directory and an existing one (START="--runs 2" for less)
	$(BIN)/python benchmarks/start.py $(START)

bench-k6: $(VENV)/.installed-bench ## the three profiles by k6 and by devnest load in turn, beside the server's count (about 20 minutes; K6="--runs 1 --profile experiment --seconds 10" for less)
	$(BIN)/python benchmarks/generators.py $(K6)

bench-lanes: $(VENV)/.installed ## bcrypt's lanes beside pyca/bcrypt, on one core and on two (about two minutes; PART=lanes for less)
	$(BIN)/python benchmarks/lanes.py $(PART)

bench-pool: $(VENV)/.installed-bench ## the pool beside other pools, then hashes through it (about four minutes; POOL="--rounds 1" for less)
	$(BIN)/python benchmarks/pool.py $(POOL)
	$(BIN)/python benchmarks/pool.py --hashing $(POOL)

bench-load: $(VENV)/.installed ## the load generator against wrk, and its CPU per request
	@$(BIN)/python benchmarks/load.py

docs: $(VENV)/.installed-dev ## build the documentation site into build/docs; every warning and every broken link is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs build/docs

lint: $(VENV)/.installed-dev ## ruff, mypy, codespell, clang-format on native/, and the files of .github against their schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/clang-format --dry-run --Werror native/*.[ch]
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

bench: $(VENV)/.installed-bench ## requests per second of the light routes on one server process (BENCH="--profile" for more)
	$(BIN)/python benchmarks/routes.py $(BENCH)

pins: $(VENV)/.installed-dev $(VENV)/.installed-bench ## write the versions installed in .venv into constraints.txt
	$(PIP) freeze --exclude-editable --all > constraints.txt

clean: ## remove what the other targets made here (not DevNest's data)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'DevNest needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(SOURCES) | $(VENV)/.made
	$(PIP) install --upgrade -c $(CONSTRAINTS) pip setuptools
	$(PIP) install -c $(CONSTRAINTS) --build-constraint $(CONSTRAINTS) --editable '.[all]'
	$(COMPILE) src
	@$(TELL_OF_LANES)
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install -c $(CONSTRAINTS) --build-constraint $(CONSTRAINTS) --editable '.[bench]'
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(VENV)/.made
	$(PIP) install --upgrade -c $(CONSTRAINTS) pip setuptools
	$(PIP) install -c $(CONSTRAINTS) --build-constraint $(CONSTRAINTS) --editable '.[dev]'
	$(COMPILE) src tests
	@$(TELL_OF_LANES)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only --quiet -n 0 > /dev/null 2>&1 || true  # compiles tests its own way
	@touch $@ $(VENV)/.installed

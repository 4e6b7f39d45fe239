# The commands of a checkout. ARGS is passed on: make demo ARGS="--kill 1"

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed
RUFF_RULES := E,F,I,UP,B,SIM,RUF
# One thread for each test process: several of them share the machine already.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

# The benchmark sets, where they lie beside the checkout.
ifneq ($(wildcard ../shared/data),)
export P2PFUSION_DATA ?= $(abspath ../shared/data)
endif

.PHONY: help .venv demo test soak fuzz lint format bench sim reference \
  dist-check lock clean

help:
	@echo "make demo    train a real swarm on this machine (ARGS=\"--kill 1\")"
	@echo "make test    the tests of every part (ARGS=\"-m 'not slow'\" for the quick ones)"
	@echo "make soak    the tests that make test leaves out: many processes, or minutes each"
	@echo "make fuzz    damaged bytes into all that reads bytes (ARGS=\"--minutes 60\")"
	@echo "make lint    ruff and mypy;  make format rewrites what ruff can"
	@echo "make sim     a thousand simulated swarms in which things go wrong"
	@echo "make bench   every script in benchmarks/"
	@echo "make dist-check  build wheel and sdist, install them elsewhere, run the demo"
	@echo "make lock    newest versions within setup.cfg's ranges into requirements.lock"
	@echo "make reference  write docs/reference/ anew, from the code"
	@echo "make clean   remove .venv and everything that tools left"

.venv: $(STAMP)

$(STAMP): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "p2pfusion needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/python cli.py demo $(ARGS)

# Slow tests come last, and what times something has the machine to itself
# (tests/conftest.py). A file's tests stay in one process and share what they set up.
# Three processes for two cores: of two, those that waited for daemons left the cores
# idle for a third of the time.
test: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 3 --dist loadscope \
	  --no-loadscope-reorder $(ARGS)

# What starts many processes and is no core path, and what takes minutes each: sieges,
# bad networks, power failures, rarer methods, churn, fuzzing at length.
soak: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m pytest --soak -n 2 --dist loadscope \
	  --no-loadscope-reorder $(ARGS)

# What it finds is kept in tests/fuzz/corpus, which make test tries again.
fuzz: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m tests.fuzz.campaign $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check --target-version py311 --select $(RUFF_RULES) .
	$(BIN)/ruff format --target-version py311 --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --target-version py311 --select $(RUFF_RULES) --fix .
	$(BIN)/ruff format --target-version py311 .

bench: $(STAMP)
	@set -e; for script in benchmarks/*.py; do \
	  echo "== $$script"; $(BIN)/python $$script $(ARGS); done

sim: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m p2pfusion.simulation.seeds $(ARGS)
	@$(ONE_THREAD) $(BIN)/python -m p2pfusion.simulation.storm

# A test fails while a page there is out of date.
reference: $(STAMP)
	$(BIN)/python docs/generate.py

# Builds what is published, and runs it where no checkout is.
dist-check: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m pytest --soak tests/packaging $(ARGS)

# Newest versions within the ranges of setup.cfg, but of torch: fetches all of them.
# Then install them and run the whole suite before you keep the file.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet setuptools \
	  "$$(grep ^torch== requirements.lock)" ".[plot,tensorboard,test,lint]"
	grep '^#' requirements.lock > build/lock/new
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude p2pfusion \
	  | sed 's/+.*//' | tr A-Z_ a-z- | LC_ALL=C sort >> build/lock/new
	cp build/lock/new requirements.lock

clean:
	rm -rf .venv build dist p2pfusion.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `make quickstart` and `make test` set up everything they need; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export TF_USE_LEGACY_KERAS := 1
export TF_CPP_MIN_LOG_LEVEL ?= 2
RUN_DIR ?= runs/quickstart
# More than the two processors that the time is measured on: a quarter of it, tests wait for servers.
PYTEST_WORKERS ?= 3
# A file's tests share fixtures. Files come in order: by their numbers of tests, those with few long ones would be last.
# After a crash of a worker, xdist would wait for the next one without end: the others finish.
PYTEST_IN_PARALLEL = -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0
# Of all tests, for whatever else has no end.
TEST_MINUTES ?= 60

.PHONY: help venv quickstart test test-slow test-flink test-spark test-isa check format lint types bench chromium debian-packages clean axe

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

# Everything in .venv follows from these two files; touch nothing and a second run costs nothing.
.venv/.ready: pyproject.toml constraints.txt
	@rm -rf .venv
	@set -e; \
	python=; for candidate in "$(PYTHON)" python3 python3.12 python3.11 python3.13 python3.10; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then python=$$("$$candidate" -c 'import sys; print(sys.executable)'); break; fi; done; \
	if [ -z "$$python" ]; then echo "make venv: needs Python 3.10 to 3.13 as python3, or PYTHON=/path/to/python" >&2; exit 1; fi; \
	echo "setting up .venv with $$("$$python" --version) (a few minutes the first time)"; \
	if command -v uv >/dev/null; then \
	  uv venv --quiet --python "$$python" .venv; \
	  VIRTUAL_ENV=$$PWD/.venv uv pip install --quiet --constraint constraints.txt --editable '.[all,dev]'; \
	else \
	  "$$python" -m venv .venv; \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'; \
	fi
	@touch $@

venv: .venv/.ready  ## the environment alone

quickstart: .venv/.ready  ## generated log, replicas trained, served and measured, dashboard open until Ctrl-C
	$(BIN)/ranker quickstart --run-dir $(RUN_DIR) $(ARGS)

test: .venv/.ready chromium axe  ## all tests but the slow campaigns
	@code=0; timeout --foreground --signal=INT --kill-after=60 $(TEST_MINUTES)m \
	  $(BIN)/python -m pytest $(PYTEST_IN_PARALLEL) $(ARGS) || code=$$?; \
	if [ $$code = 124 ] || [ $$code = 137 ]; then echo "make test: no end within TEST_MINUTES=$(TEST_MINUTES)" >&2; fi; \
	exit $$code

test-slow: .venv/.ready  ## the slow campaigns: soak, hostile requests, kills
	$(BIN)/python -m pytest -m slow $(ARGS)

test-flink: .venv/.ready  ## the pipeline on a Flink mini-cluster (Java 17 and Maven Central needed)
	$(BIN)/python -m pytest -m flink $(ARGS)

test-spark: .venv/.ready  ## prepare on Spark in local mode (Java 17 and Maven Central needed)
	$(BIN)/python -m pytest -m spark $(ARGS)

PRISM := $(CURDIR)/build/prism/prism
$(PRISM):
	GOBIN=$(@D) go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0

.PHONY: test-prism
test-prism: .venv/.ready $(PRISM)  ## prepare on Beam's Prism (Go needed: it is built from its module)
	STEADY_RANKER_PRISM=$(PRISM) $(BIN)/python -m pytest tests/pipelines/prepare/test_prepare_on_prism.py $(ARGS)

# XLA, oneDNN, OpenBLAS and NumPy choose their code by the processor. Each line: a name, their four limits, and the threads.
NUMERIC_TESTS ?= tests/ranker tests/pipelines/evaluate
test-isa: .venv/.ready  ## the numeric tests as three kinds of processors round them (SSE4.2, AVX2, AVX-512)
	@set -e; \
	run() { \
	  features=; for feature in $$5; do grep -qwi "$$(echo $$feature | sed 's/FMA3/fma/')" /proc/cpuinfo && features="$$features $$feature"; done; \
	  echo "== $$1, $$6 thread(s)"; \
	  XLA_FLAGS=--xla_cpu_max_isa=$$2 ONEDNN_MAX_CPU_ISA=$$3 OPENBLAS_CORETYPE=$$4 NPY_DISABLE_CPU_FEATURES="$$features" \
	  TF_NUM_INTRAOP_THREADS=$$6 TF_NUM_INTEROP_THREADS=$$6 OMP_NUM_THREADS=$$6 OPENBLAS_NUM_THREADS=$$6 \
	  $(BIN)/python -m pytest -q $(PYTEST_IN_PARALLEL) $(NUMERIC_TESTS) $(ARGS); \
	}; \
	run SSE4.2 SSE4_2 SSE41 Nehalem "FMA3 AVX2 AVX512F AVX512CD" 1; \
	run AVX2 AVX2 AVX2 Haswell "AVX512F AVX512CD" 2; \
	if grep -qw avx512f /proc/cpuinfo; then run AVX-512 AVX512 AVX512_CORE SkylakeX "" 1; \
	else echo "== AVX-512: left out, this processor has none"; fi

FRAMEWORKS := build/frameworks-venv
$(FRAMEWORKS)/.ready: tests/requirements-frameworks.txt
	python3 -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install --quiet -r tests/requirements-frameworks.txt
	@touch $@

.PHONY: test-frameworks
test-frameworks: .venv/.ready $(FRAMEWORKS)/.ready  ## the activations on JAX and PyTorch, in an environment of their own (3 GB)
	RANKER_FRAMEWORKS_PYTHON=$(FRAMEWORKS)/bin/python $(BIN)/python -m pytest -m frameworks $(ARGS)

MLSERVER := build/mlserver-venv
$(MLSERVER)/.ready: tests/requirements-mlserver.txt
	python3 -m venv $(MLSERVER)
	$(MLSERVER)/bin/python -m pip install --quiet -r tests/requirements-mlserver.txt
	@touch $@

.PHONY: test-mlserver
test-mlserver: .venv/.ready $(MLSERVER)/.ready  ## the monitor's clients against MLServer, in an environment of its own
	STEADY_RANKER_MLSERVER=$(CURDIR)/$(MLSERVER)/bin/python $(BIN)/python -m pytest tests/serving/targets $(ARGS)

.PHONY: tutorial
tutorial: .venv/.ready  ## docs/tutorial/incident.md: runs the incident and writes what every command printed (some minutes)
	@mkdir -p build
	$(BIN)/python docs/tutorial/incident.py > build/incident.md
	mv build/incident.md docs/tutorial/incident.md

MONITOR := build/monitor-venv
.PHONY: test-monitor-extra
test-monitor-extra: .venv/.ready  ## the monitor in an environment with its own extra alone: size, a round, a gate
	python3 -m venv --clear $(MONITOR)
	$(MONITOR)/bin/python -m pip install --quiet --constraint constraints.txt '.[monitor]'
	RANKER_MONITOR_PYTHON=$(MONITOR)/bin/python $(BIN)/python -m pytest -m bare -rP tests/serving/monitor/test_bare_environment.py $(ARGS)

.PHONY: site
site: .venv/.ready  ## the documentation as a site that is read without a network, in build/site
	@if [ -x $(BIN)/mkdocs ]; then NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet; \
	else echo "the documentation's site is left out: its generator needs Python 3.11"; fi

check: format-check lint types site test  ## what CI runs

.PHONY: format-check
format-check: .venv/.ready
	$(BIN)/ruff format --check .

format: .venv/.ready  ## formats the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: .venv/.ready  ## the descriptor set of serving/wire/protos
	$(BIN)/python -m grpc_tools.protoc --proto_path=serving/wire/protos --descriptor_set_out=serving/wire/contract.binpb serving/wire/protos/*.proto

lint: .venv/.ready
	$(BIN)/ruff check .

types: .venv/.ready
	$(BIN)/mypy

SOAK_SECONDS ?= 600
.PHONY: soak
soak: .venv/.ready  ## the server at full load for SOAK_SECONDS, and how much its memory grows
	$(BIN)/python benchmarks/server.py --only soak --soak-seconds $(SOAK_SECONDS) $(ARGS)

bench: .venv/.ready  ## the comparisons of benchmarks/, one after the other
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

# Resumes where it stopped. What it takes stands on the page; ranker.study.claims.PLAN has its sizes. ARGS=--quick is a smoke form, on the generated log alone.
EVIDENCE_DIR ?= runs/evidence
EVIDENCE_PAGE ?= docs/evidence.md
.PHONY: evidence
evidence: .venv/.ready  ## EVIDENCE_PAGE: the claims on the generated log, and on ml-1m and frappe in STEADY_RANKER_DATA where they are
	set -e; runs="--run-dir $(EVIDENCE_DIR)/synthetic"; \
	[ -d $(EVIDENCE_DIR)/log ] || $(BIN)/python -m ranker.synthetic $(EVIDENCE_DIR)/log; \
	$(BIN)/ranker prepare --config configs/quickstart.yaml --set data.root=$(EVIDENCE_DIR)/log --set training.epochs=1 \
	  --run-dir $(EVIDENCE_DIR)/synthetic; \
	if [ -z "$(findstring --quick,$(ARGS))" ] && [ -d "$$STEADY_RANKER_DATA/ml-1m" ]; then \
	  $(BIN)/ranker prepare --config configs/movielens-1m-binary.yaml --set "data.root=$$STEADY_RANKER_DATA/ml-1m" \
	    --set 'data.split={by: hash, of: [user_id, movie_id], eval: 0.1}' --run-dir $(EVIDENCE_DIR)/ml-1m; \
	  runs="--run-dir $(EVIDENCE_DIR)/ml-1m $$runs"; \
	fi; \
	if [ -z "$(findstring --quick,$(ARGS))" ] && [ -d "$$STEADY_RANKER_DATA/frappe" ]; then \
	  $(BIN)/ranker prepare --config configs/frappe.yaml --set "data.root=$$STEADY_RANKER_DATA/frappe" \
	    --run-dir $(EVIDENCE_DIR)/frappe; \
	  runs="$$runs --run-dir $(EVIDENCE_DIR)/frappe"; \
	fi; \
	$(BIN)/ranker study evidence $$runs --page $(EVIDENCE_PAGE) --replicas 4 $(ARGS)

# Browser tests need a Chromium. One that is there is used; Debian's is installed where that is allowed.
axe: tests/browser/node_modules/.ready

# the browser tests that need it say so where npm is missing
tests/browser/node_modules/.ready: tests/browser/package.json
	@if command -v npm >/dev/null && (cd tests/browser && npm install --no-package-lock --no-audit --no-fund --loglevel=error >/dev/null); \
	then touch $@; else echo "axe-core is not installed (npm needed): the tests of accessibility are skipped" >&2; fi

# Figures of a busy machine are too low: run it alone.
LIGHTHOUSE := build/lighthouse
$(LIGHTHOUSE)/.ready:
	mkdir -p $(LIGHTHOUSE)
	npm install --prefix $(LIGHTHOUSE) --no-package-lock --no-audit --no-fund --loglevel=error \
	  lighthouse@12.8.2 plotly.js-basic-dist-min@4.1.1 >/dev/null
	@touch $@

.PHONY: lighthouse
lighthouse: .venv/.ready chromium $(LIGHTHOUSE)/.ready  ## Lighthouse over the dashboard, on desktop and phone (npm needed); ARGS=PAGE...
	PYTHONPATH=. $(BIN)/python tests/browser/lighthouse.py $(LIGHTHOUSE)/node_modules/.bin/lighthouse \
	  $(LIGHTHOUSE)/node_modules/plotly.js-basic-dist-min/plotly-basic.min.js $(ARGS)

.PHONY: pictures
pictures: .venv/.ready chromium  ## the pictures of the README in docs/images, of the dashboard as it is
	RANKER_SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/browser -k test_pictures_for_the_readme

.PHONY: bare
bare: .venv/.ready  ## every command in an environment with each extra alone (the network needed); ARGS=EXTRA...
	$(BIN)/python tests/bare_environments.py $(ARGS)

chromium:
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing Debian's chromium for the browser tests"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
	      || echo "chromium could not be installed: the browser tests will be left out"; \
	  else echo "no chromium: the browser tests will be left out; install it (Debian: apt-get install chromium) to have them"; fi; fi

debian-packages:  ## what the tests leave out without: Chromium, PostgreSQL, Prometheus, Alertmanager, nginx (as root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  chromium nginx-light postgresql prometheus prometheus-alertmanager >/dev/null

clean:  ## removes the environment and all caches
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

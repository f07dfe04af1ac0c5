# make course   environment, data, every notebook; prints the two scores last
# make lab      JupyterLab on the notebooks
# make book     environment, the lessons as a site: build/book/_build/html/index.html
# make test     environment, tests except those that take long
# make test-all environment, all tests
# make bench    measurements (needs time, see benchmarks/)
#
# TORCH=cpu after any of them: PyTorch without CUDA, for a machine without an NVIDIA GPU

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RESULTS := benchmarks/results
READY := $(VENV)/ready

# How long a thread of torch that waits for others spins before it sleeps, unless you have chosen:
# as facekit/__init__.py has it, for a kernel of `make lab` that loads torch first.
ifeq ($(OMP_WAIT_POLICY)$(GOMP_SPINCOUNT)$(KMP_BLOCKTIME),)
export GOMP_SPINCOUNT := 10000
export KMP_BLOCKTIME := 1
endif

# Which build of PyTorch: `default` is the one that pip finds, on Linux with CUDA. The environment
# notes its own before the first package comes, so that a later call goes on with the same.
NOTE := $(VENV)/torch
MADE := $(or $(shell cat $(NOTE) 2>/dev/null),$(if $(wildcard $(READY)),default))
TORCH ?= $(or $(MADE),default)
ifeq ($(filter $(TORCH),default cpu),)
$(error TORCH=$(TORCH): choose TORCH=cpu (without CUDA) or TORCH=default (on Linux with CUDA))
endif
ifneq ($(filter-out $(TORCH),$(MADE)),)
$(error $(VENV) has TORCH=$(MADE); for TORCH=$(TORCH), remove it first: rm -r $(VENV))
endif

# torch and torchvision have to come from one place: an ordinary torchvision cannot load a torch that
# was built without CUDA. uv knows PyTorch's own place for both; pip would have to be told.
PACKAGES := --editable '.[notebooks,test]'
PIP_INSTALL := -m pip install $(PACKAGES)
ifeq ($(TORCH),cpu)
UV_TORCH := --torch-backend cpu
PIP_INSTALL := -m pip install 'uv>=0.7' && \
  $(BIN)/python -m uv pip install $(UV_TORCH) --python $(BIN)/python $(PACKAGES)
COMING := "about 200 packages, PyTorch without CUDA among them: 2 GB on disk."
else
COMING := \
  "about 220 packages, PyTorch among them: 6 GB on disk on Linux, most of it CUDA; else 2 GB." \
  "Without an NVIDIA GPU 2 GB do on Linux, too: make $(or $(MAKECMDGOALS),course) TORCH=cpu"
endif

# A file's tests share what they prepare, so they stay together.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: course lab book test test-all bench

course: $(READY)
	./data_setup.sh
	$(BIN)/python -m facekit course

lab: $(READY)
	$(BIN)/jupyter lab notebooks

book: $(READY)
	$(BIN)/python notebooks/book.py

test: $(READY)
	$(BIN)/ruff check .
	$(PYTEST) -m "not long"

test-all: test
	$(PYTEST) -m long

# Each writes benchmarks/results/<name>.json and prints its tables; the last one puts their figures
# into docs/results.md. About two hours in all.
bench: $(READY)
	mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/faces.py speed --out $(RESULTS)/faces_speed.json
	$(BIN)/python benchmarks/data.py --out $(RESULTS)/data.json
	$(BIN)/python benchmarks/step.py --compiled --out $(RESULTS)/step.json
	$(BIN)/python benchmarks/loop.py --out $(RESULTS)/loop.json
	$(BIN)/python benchmarks/busy.py --out $(RESULTS)/busy.json
	$(BIN)/python benchmarks/saving.py --out $(RESULTS)/saving.json
	$(BIN)/python benchmarks/bring_own.py --out $(RESULTS)/bring_own.json
	-$(BIN)/python benchmarks/timm_race.py --out $(RESULTS)/timm_race.json
	$(BIN)/python benchmarks/panel.py --out $(RESULTS)/panel.json
	$(BIN)/python benchmarks/search.py --device cpu --out $(RESULTS)/search.json
	$(BIN)/python benchmarks/faults.py --out $(RESULTS)/faults.json
	$(BIN)/python benchmarks/kills.py --out $(RESULTS)/kills.json
	-$(BIN)/python benchmarks/gpu.py --out $(RESULTS)/gpu.json
	$(BIN)/python benchmarks/page.py

# uv where it is there, else venv and pip; made anew when the list of packages changes.
$(READY): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "facekit needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	@printf '%s\n' "Installing into $(CURDIR)/$(VENV):" $(COMING)
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --allow-existing --python "$(PYTHON)" $(VENV) && echo $(TORCH) >$(NOTE) && \
	  uv pip install $(UV_TORCH) --python $(BIN)/python $(PACKAGES); \
	else \
	  "$(PYTHON)" -m venv $(VENV) && echo $(TORCH) >$(NOTE) && \
	  $(BIN)/python $(PIP_INSTALL); \
	fi
	@touch $(READY)

# make course   environment, data, every notebook; prints the two scores last
# make lab      JupyterLab on the notebooks
# make test     environment, tests except those that take long
# make test-all environment, all tests
# make bench    measurements (needs time, see benchmarks/)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RESULTS := benchmarks/results
READY := $(VENV)/ready
# A file's tests share what they prepare, so they stay together.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: course lab test test-all bench

course: $(READY)
	./data_setup.sh
	$(BIN)/python -m facekit course

lab: $(READY)
	$(BIN)/jupyter lab notebooks

test: $(READY)
	$(BIN)/ruff check .
	$(PYTEST) -m "not long"

test-all: test
	$(PYTEST) -m long

# Each writes benchmarks/results/<name>.json and prints its tables; about two hours in all.
bench: $(READY)
	mkdir -p $(RESULTS)
	$(BIN)/python benchmarks/faces.py speed --out $(RESULTS)/faces_speed.json
	$(BIN)/python benchmarks/data.py --out $(RESULTS)/data.json
	$(BIN)/python benchmarks/step.py --compiled --out $(RESULTS)/step.json
	$(BIN)/python benchmarks/loop.py --out $(RESULTS)/loop.json
	-$(BIN)/python benchmarks/timm_race.py --out $(RESULTS)/timm_race.json
	$(BIN)/python benchmarks/panel.py --out $(RESULTS)/panel.json
	$(BIN)/python benchmarks/search.py --device cpu --out $(RESULTS)/search.json
	$(BIN)/python benchmarks/faults.py --out $(RESULTS)/faults.json
	$(BIN)/python benchmarks/kills.py --out $(RESULTS)/kills.json
	-$(BIN)/python benchmarks/gpu.py --out $(RESULTS)/gpu.json

# uv where it is there, else venv and pip; made anew when the list of packages changes.
$(READY): pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "facekit needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --allow-existing --python "$(PYTHON)" $(VENV) && \
	  uv pip install --python $(BIN)/python --editable '.[notebooks,test]'; \
	else \
	  "$(PYTHON)" -m venv $(VENV) && \
	  $(BIN)/python -m pip install --editable '.[notebooks,test]'; \
	fi
	@touch $(READY)

# make course   environment, data, every notebook; prints the two scores last
# make lab      JupyterLab on the notebooks
# make test     environment, tests
# make bench    measurements (needs time, see benchmarks/)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: course lab test bench

course: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" ./data_setup.sh
	$(BIN)/python -m facekit course

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=.  notebooks

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python benchmarks/renderer.py

# uv where it is there, else venv and pip; made anew when the list of packages changes.
$(READY): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --allow-existing --python "$(PYTHON)" $(VENV) && \
	  uv pip install --python $(BIN)/python --editable '.[notebooks,test]'; \
	else \
	  "$(PYTHON)" -m venv $(VENV) && \
	  $(BIN)/python -m pip install --editable '.[notebooks,test]'; \
	fi
	@touch $(READY)

# Each target sets up all that it needs, in .venv inside this clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := mobilenetv2-12

.PHONY: demo test clean

demo: $(VENV)
	$(BIN)/pip install --quiet .
	$(BIN)/quantlab tune --model $(MODEL).onnx
	$(BIN)/quantlab compare $(MODEL).onnx $(MODEL).int8.onnx || test $$? -eq 3

test: $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit("quantlab needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info

# Each target sets up all that it needs, in .venv inside this clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := mobilenetv2-12

.PHONY: demo test chromium postgresql reports clean

demo: $(VENV)
	$(BIN)/pip install --quiet .
	$(BIN)/quantlab tune --model $(MODEL).onnx
	$(BIN)/quantlab compare $(MODEL).onnx $(MODEL).int8.onnx || test $$? -eq 3

test: $(VENV) chromium postgresql
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 4 --dist worksteal

# For the tests marked browser; where none can be had, pytest says that it leaves them out.
chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium \
	    >/dev/null || echo 'No Chromium: the tests marked browser are left out.'

# For the tests marked postgres, which start a server of their own.
postgresql:
	@{ command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 || \
	{ command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql \
	    >/dev/null; } || echo 'No PostgreSQL: the tests marked postgres are left out.'

# All of reports/ anew, which takes hours: docs/history.md. NNCF= names a Python that has nncf.
reports: $(VENV)
	@test -n "$$QUANTLAB_DATA" || { echo 'Set QUANTLAB_DATA first.'; exit 2; }
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/python benchmarks/verdicts.py
	$(BIN)/python benchmarks/early_stop.py
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/mutants.py --count 10000 --out reports/mutants.md
	$(BIN)/python benchmarks/own_runs.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/tuning.py --inc $(abspath $(BIN)/python)
	$(BIN)/python benchmarks/fidelity.py --ablation
	$(BIN)/python benchmarks/fidelity.py $(foreach peer,ort inc,--peer $(peer)=$(abspath $(BIN)/python)) $(if $(NNCF),--peer nncf=$(NNCF))

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit("quantlab needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info

# Each target sets up all that it needs, in .venv inside this clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODEL := mobilenetv2-12

.PHONY: demo test lint pytest compiled docs wheel tag dev chromium postgresql qemu families reports clean

# Thousands of processes would each compile anew what they import.
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)
	$(BIN)/pip install --quiet .
	$(BIN)/quantlab tune $(MODEL).onnx
	$(BIN)/quantlab compare $(MODEL).onnx $(MODEL).int8.onnx || test $$? -eq 3

test:
	@$(MAKE) --no-print-directory -j 2 lint compiled
	@$(MAKE) --no-print-directory pytest

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# The tests' modules, once, not in every process of pytest: while lint uses the other core.
compiled: dev
	@$(BIN)/pytest --collect-only -qq >/dev/null

# One of the tests builds the site, with warnings as errors.
pytest: dev chromium postgresql qemu
	$(BIN)/pytest -n 5 --dist worksteal

# Families of classifiers from PyTorch, a few of them; FAMILIES=--every-family: all, for an hour. Its own environment, as torch
# would change what other tests run. pip's default torch for Linux has CUDA and takes several GB: TORCH names a build for CPUs,
# where pip's index has one.
TORCH := torch==2.13.0+cpu
FAMILIES :=
FAMILIES_NEED := --quiet --editable '.[families]' hypothesis pytest pytest-xdist
families:
	$(PYTHON) -m venv build/families
	build/families/bin/pip install '$(TORCH)' $(FAMILIES_NEED) || build/families/bin/pip install $(FAMILIES_NEED)
	build/families/bin/pytest -n 2 -p no:cacheprovider $(FAMILIES) tests/quantize/test_families.py

# The documentation site, in build/site: mkdocs.yml.
docs: dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Made from the sdist, as for a release, and tried in an empty environment, away from the clone.
wheel: $(VENV)
	$(BIN)/pip install --quiet build
	rm -rf dist build/wheel
	$(BIN)/python -m build
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet dist/*.whl
	build/wheel/bin/python -I ci/try_wheel.py

# For a release: whether TAG names the version of the package.
tag: $(VENV)
	@$(BIN)/pip install --quiet hatchling
	@version=$$($(BIN)/python -m hatchling version) && test "$(TAG)" = "v$$version" || \
	{ echo "The tag $(TAG) does not name the version, v$$version."; exit 2; }

dev: $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'

# $(call apt,PACKAGE,MARKER): says what it installs, or what is left out where it may not.
define apt
if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
  echo 'Installing $(1) with apt-get …'; \
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq --no-install-recommends $(1) >/dev/null && exit 0; \
  why='apt-get failed'; \
else why='not root or no apt-get'; fi; \
echo "No $(1): $$why; the tests marked $(2) are left out."
endef

# For the tests marked browser.
chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	$(call apt,chromium,browser)

# For the tests marked postgres, which start a server of their own.
postgresql:
	@{ command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 && exit 0; \
	$(call apt,postgresql,postgres)

# For the tests marked emulator.
qemu:
	@command -v qemu-x86_64-static >/dev/null && exit 0; \
	$(call apt,qemu-user-static,emulator)

# All of reports/ anew, which takes hours: docs/history.md. NNCF= names a Python that has nncf.
reports: dev
	@test -n "$$QUANTLAB_DATA" || { echo 'Set QUANTLAB_DATA first.'; exit 2; }
	$(BIN)/python benchmarks/verdicts.py
	$(BIN)/python benchmarks/early_stop.py
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/mutants.py --count 10000 --out reports/mutants.md
	$(BIN)/python benchmarks/own_runs.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/tuning.py --inc $(abspath $(BIN)/python)
	$(BIN)/python benchmarks/cpus.py
	$(BIN)/python benchmarks/fidelity.py --ablation
	$(BIN)/python benchmarks/fidelity.py $(foreach peer,ort inc,--peer $(peer)=$(abspath $(BIN)/python)) $(if $(NNCF),--peer nncf=$(NNCF))

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit("quantlab needs Python 3.11 or newer: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info

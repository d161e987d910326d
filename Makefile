# Needs Python 3.11 or later, make and git. Everything goes into .venv; `make PYTHON=/path/to/python` chooses the interpreter.

PYTHON ?= python3 python3.13 python3.12 python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: verdict test test-full soak mutation comparison corpus bench docs docs-help docs-searches clean

verdict: $(READY)
	@$(BIN)/kmm check

test: $(READY)
	$(BIN)/mypy
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 -m "not full and not soak"

# pytest ends with 5 when it finds no test of that kind.
test-full: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m full || [ $$? -eq 5 ]

soak: $(READY)
	$(BIN)/python -m pytest -q -m soak || [ $$? -eq 5 ]

# Goes on where it was interrupted; docs/mutation.md holds what it found. FILES= limits it to some files.
mutation: $(READY)
	@[ -x $(BIN)/cosmic-ray ] || $(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements-dev.lock -e '.[mutation]'
	$(BIN)/python -m tests.mutation.run $(FILES)
	$(BIN)/python -m tests.mutation.judge $(FILES)
	$(BIN)/python -m tests.mutation.page

# Brings two tools of others into a virtual environment of their own, build/comparison.
comparison: $(READY)
	$(BIN)/python -m corpus.comparison

# Goes on where it was interrupted; build/corpus/answers.jsonl holds what was said, docs/corpus.md the tables. ONLY= limits it, ARGUMENTS= passes on more.
corpus: $(READY)
	$(BIN)/python -m corpus.judge --page docs/corpus.md $(if $(ONLY),--only "$(ONLY)") $(ARGUMENTS)

# Measures frontrun, too, in a virtual environment of its own, where it can be had.
bench: $(READY)
	@[ -x build/frontrun/bin/frontrun ] || { $(BIN)/python -m venv build/frontrun && \
	    build/frontrun/bin/python -m pip install -qq --disable-pip-version-check frontrun==0.7.0; } || \
	    echo "kmm: frontrun cannot be installed; its row is left out" >&2
	$(BIN)/python benchmarks/run.py

# KERNEL=/path/to/linux sets the C of that tree beside the port; what was built so stays on this machine.
docs: $(READY)
	@[ -z "$(KERNEL)" ] || $(BIN)/python -m docs._ext.kernel_tree "$(KERNEL)"
	@KERNEL="$(KERNEL)" $(BIN)/python -m sphinx -q -E -W --keep-going -n -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

docs-help: $(READY)
	@$(BIN)/python -m docs._ext.commands
	@$(BIN)/python -m docs._ext.followups
	@$(BIN)/python -m docs._ext.bugs

docs-searches: $(READY)
	@$(BIN)/python -m docs._ext.searches

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist docs/_build

$(READY): pyproject.toml requirements-dev.lock
	@set -e; python=; \
	for each in $(PYTHON); do \
	    [ -n "$$python" ] || ! "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=$$each; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "kmm: no Python 3.11 or later among: $(PYTHON); install one, or say make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "kmm: $$python cannot make a virtual environment (no ensurepip); install your system's python3-venv package" >&2; exit 1; \
	fi; \
	"$$python" -m venv .venv; \
	echo "kmm: installing into .venv" >&2; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements-dev.lock -e '.[dev]'; \
	touch $@

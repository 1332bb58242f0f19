# Every target sets up what it needs by itself: a .venv in the checkout, made once and kept.
VENV ?= .venv
PY := $(VENV)/bin/python
# DALI for CUDA 13 also runs on a CPU; for CUDA 12 machines: make DALI=cuda120 test
DALI ?= cuda130
# Both distributions own the same files, so the other one must go before this one comes.
OTHER_DALI := $(filter-out nvidia-dali-$(DALI),nvidia-dali-cuda120 nvidia-dali-cuda130)
# Tests of one file stay together: they share what they draw, train and build.
WORKERS ?= 2
SPREAD := -n $(WORKERS) --dist loadfile
STAMP := $(VENV)/.installed-$(DALI)

.PHONY: demo test check lint types fast clean
demo: $(STAMP)
	$(PY) -m kdcache.cli.kdcache demo --out demo-out

test: $(STAMP)
	$(PY) -m pytest $(SPREAD)

check: lint types fast

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)   # type checkers cannot read package-dir: they see the folders through four git-ignored links
	@mkdir -p .typing/kdcache && for p in cache losses trainer cli; do ln -sfn ../../$$p .typing/kdcache/$$p; done
	$(VENV)/bin/mypy

fast: $(STAMP)
	$(PY) -m pytest -m "not slow" -q $(SPREAD)

$(STAMP): pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip uninstall --quiet --yes $(OTHER_DALI)
ifeq ($(DALI),cuda130)
	$(PY) -m pip install --quiet -e ".[dev]"
else
	sed 's/nvidia-dali-cuda130/nvidia-dali-$(DALI)/' pyproject.toml > $(VENV)/pyproject.$(DALI)
	$(PY) -c "import tomllib,sys; p=tomllib.load(open(sys.argv[1],'rb'))['project']; \
	    print(*p['dependencies'], *p['optional-dependencies']['dev'], sep='\n')" \
	    $(VENV)/pyproject.$(DALI) > $(VENV)/requirements.txt
	$(PY) -m pip install --quiet -r $(VENV)/requirements.txt
	$(PY) -m pip install --quiet --no-deps -e .
endif
	touch $(STAMP)

clean:
	rm -rf $(VENV) .typing build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# viagra.py: make demo, make test, make install. For GNU make and BSD make.

PYTHON = python3
PREFIX = /usr/local
# Empty: /etc on Linux, $(PREFIX)/etc elsewhere.
SYSCONFDIR =
# Empty: the program's own, /var/lib/viagra on Linux.
STATEDIR =
MANDIR = $(PREFIX)/share/man
DESTDIR =
# How long daemons die in a soak.
SECONDS = 600
# What make release is to tag.
VERSION =
# More for pytest, such as PYTEST="-k trust"
PYTEST =

# Its own python: the tests must not depend on what the machine's has.
VENV = .venv
# With its bytecode kept, wherever that is switched off: else each worker of pytest
# compiles all tests anew.
RUN = PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m
SCRIPTS = install.sh release.sh tests/demo.sh tests/soak/run bench/run .ci/run packaging/deb.sh \
	completions/viagra.py.bash

help:
	@echo "make demo       a daemon of its own is killed and brought back; nothing stays"
	@echo "make test       linters and tests, with real processes"
	@echo "make test-long  those that take minutes as well"
	@echo "make test-portable  the tests, with the process table read through psutil"
	@echo "make test-machines  fresh Debians, and ones booted by systemd, OpenRC and sysvinit; root"
	@echo "make test-machines-ci  some of these, in four minutes"
	@echo "make bench      what a run costs, beside other ways to do it"
	@echo "make soak       daemons die and much goes wrong, for SECONDS=$(SECONDS)"
	@echo "make install    PREFIX=$(PREFIX) SYSCONFDIR= STATEDIR= DESTDIR= PYTHON=$(PYTHON)"
	@echo "make deb        a package for Debian 12 and later, in build/"
	@echo "make uninstall  all but settings and state"
	@echo "make release    VERSION=1.1.0: checks the tree, sets the version, tags"
	@echo "make clean      what these left in the checkout"

demo:
	@PYTHON="$(PYTHON)" sh tests/demo.sh

test: lint compiled
	$(RUN) pytest -rs -n 8 --dist loadgroup $(PYTEST)

test-long: lint compiled
	$(RUN) pytest -rs -n 8 --dist loadgroup -m "not machines" $(PYTEST)

# With the process table read as on a BSD; docs/portable.md says what cannot hold there.
test-portable: compiled
	VIAGRA_TEST_TABLE=psutil $(RUN) pytest -rs -n 8 --dist loadgroup $(PYTEST)

test-machines: $(VENV)/ready
	$(RUN) pytest -rs -n 2 --dist loadgroup -m "machines and not long" tests/machines $(PYTEST)

# What .ci/run has time for: with few daemons, roots are made in a minute or two.
test-machines-ci: $(VENV)/ready
	VIAGRA_MACHINES_FEW=1 $(RUN) pytest -rs -n 4 --dist loadgroup -m "machines and ci" tests/machines $(PYTEST)

lint: $(VENV)/ready
	$(RUN) ruff check .
	$(RUN) ruff format --check --quiet .
	$(RUN) mypy
	@if command -v shellcheck >/dev/null; then \
		echo shellcheck $(SCRIPTS); shellcheck $(SCRIPTS); \
	elif [ -n "$$CI" ]; then echo "this machine lacks shellcheck" >&2; exit 1; \
	else echo "skipped: shellcheck, which this machine lacks"; fi

# Once, and not by each of pytest's workers at the same time.
compiled: $(VENV)/ready
	@[ -d tests/helpers/__pycache__ ] || $(RUN) pytest --collect-only -q >/dev/null || :

# Only what the tests need, not the checkout itself: an editable install would load a
# finder, with half the standard library, into each Python of this environment.
$(VENV)/ready: pyproject.toml
	@PYTHON="$(PYTHON)" sh install.sh check-python
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -c "import tomllib; \
		project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
		more = project['optional-dependencies']['test']; \
		print(*project['dependencies'], *more, sep='\n')" >$(VENV)/requirements
	$(RUN) pip install --quiet --disable-pip-version-check -r $(VENV)/requirements
	@touch $(VENV)/ready

bench: $(VENV)/ready
	@if [ -x bench/run ]; then bench/run; else echo "there is no bench/run" >&2; exit 1; fi

soak:
	@PYTHON="$(PYTHON)" tests/soak/run --seconds $(SECONDS)

release: test
	@sh release.sh "$(VERSION)"

install uninstall:
	@PYTHON="$(PYTHON)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" \
		STATEDIR="$(STATEDIR)" MANDIR="$(MANDIR)" DESTDIR="$(DESTDIR)" \
		sh install.sh $@

deb:
	@PYTHON="$(PYTHON)" sh packaging/deb.sh

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo test test-long test-portable test-machines test-machines-ci lint bench soak release install uninstall deb clean

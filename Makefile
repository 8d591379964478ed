# Two commands: `make train` and `make test`. Each makes its own environment in .venv; `make help` lists the rest.
# Kept to what GNU make 3.81 (macOS) understands.
VENV  ?= .venv
FINAL := nbs/20_cifar10.ipynb nbs/21_photos.ipynb
PAGES ?= $(filter-out $(FINAL), $(shell find nbs -name '[0-9]*.ipynb' -not -path '*/.*' | sort))

ifeq ($(OS),Windows_NT)
PY := $(VENV)/Scripts/python.exe
else
PY := $(VENV)/bin/python
endif
READY := $(VENV)/.ready

# Albumentations asks PyPI for its version at import unless told not to; the other four would let a stranger's set-up leak in.
export NO_ALBUMENTATIONS_UPDATE := 1
unexport MPLBACKEND PYTHONPATH PYTHONHOME PIP_USER

# An environment that was copied, moved, or lost its Python is no environment: the stamp holds the folder it was made for.
$(shell [ "`cat '$(READY)' 2>/dev/null`" = '$(CURDIR)' ] && '$(PY)' -c '' 2>/dev/null || rm -f '$(READY)')

.DEFAULT_GOAL := help
.PHONY: help env train photos test export check readme notebooks notebook clean-notebooks addresses docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1|/p' Makefile | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'
	@echo; echo "  make train reads S9LIB_DATA (shapes, cifar10, cifar100, pets, a folder or a .csv), S9LIB_RECIPE, S9LIB_OUT, S9LIB_SEED, S9LIB_DEVICE, S9LIB_AMP (1: mixed precision)"

train: $(READY)  ## train, evaluate and explain: runs nbs/20_cifar10.ipynb, for photos nbs/21_photos.ipynb; leaves a folder in runs/
	@$(PY) tools/run_notebook.py $(NB)

photos: $(READY)  ## nbs/21_photos.ipynb whatever the data: photos in S9LIB_DATA, else Oxford-IIIT Pet
	@$(PY) tools/run_notebook.py nbs/21_photos.ipynb

test: $(READY)  ## all checks, every page, and the final notebooks on a small data set
	@$(PY) tools/test.py

env: $(READY)  ## make or renew .venv only
	@echo "$(VENV) is ready"

export: $(READY)  ## write s9lib/*.py from nbs/
	@$(PY) -c 'from nbdev.doclinks import nbdev_export; nbdev_export()'

check: $(READY)  ## the checks alone (part of make test)
	@$(PY) tools/check.py

readme: $(READY)  ## write README.md from nbs/index.ipynb
	@$(PY) tools/readme.py

notebooks: $(READY)  ## run the numbered pages again and store their outputs (PAGES="nbs/train/08_learner.ipynb" for some)
	@$(PY) tools/run_notebook.py --inplace $(PAGES)

notebook: $(READY)  ## run the final notebook in place and store its outputs (NB=nbs/21_photos.ipynb: another)
	@$(PY) tools/run_notebook.py --inplace $(or $(NB),nbs/20_cifar10.ipynb)

clean-notebooks: $(READY)  ## strip what is not worth storing from the notebooks (not the outputs)
	@$(PY) -c 'from nbdev.clean import nbdev_clean; nbdev_clean()'

addresses: $(READY)  ## badges, install cells and links as user, repo and branch of settings.ini say
	@$(PY) tools/openings.py --write

docs: $(READY)  ## build the site in _docs (needs Quarto)
	@command -v quarto >/dev/null || { echo "make docs needs Quarto (https://quarto.org/docs/get-started); everything else works without it"; exit 1; }
	@touch README.md  # newer than index.ipynb, so that nbdev lets ours stand
	@rm -rf _proc  # of pages that stayed nbdev keeps what it made, though tools/docs.py may have changed
	@PATH="$(abspath $(dir $(PY))):$$PATH" $(PY) -c 'from nbdev.quarto import nbdev_docs; nbdev_docs()'

clean:  ## remove what can be made again (not runs/, not .venv)
	rm -rf _docs _proc build dist *.egg-info
	find s9lib tools -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last: an install that was interrupted starts again.
$(READY): constraints.txt settings.ini setup.py tools/make_env.sh
	@rm -f '$(READY)'
	@sh tools/make_env.sh '$(VENV)' '$(PY)'
	@printf '%s' '$(CURDIR)' > '$(READY)'

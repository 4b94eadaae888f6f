# Everything runs in a virtual environment of its own: .venv, or `make VENV=DIR ...`, made by
# python3.11 or python3, or `make PYTHON=... ...`.
VENV ?= .venv
MODULE := $(VENV)/bin/python -m

# The first of these that is Python >= 3.11 and can make virtual environments.
BASE_PYTHON := $(shell for python in $(or $(PYTHON),python3.11 python3); do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# A digest of what $(VENV) must hold: the requirements, the build and the commands in
# pyproject.toml. Editing code or the settings of a tool does not change it.
define REQUIREMENTS_DIGEST
import hashlib, json, tomllib
with open("pyproject.toml", "rb") as file:
    pyproject = tomllib.load(file)
keys = ["dependencies", "optional-dependencies", "requires-python", "scripts"]
parts = [pyproject["build-system"], *(pyproject["project"][key] for key in keys)]
print(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest())
endef
export REQUIREMENTS_DIGEST

# $(call install,STAMP,WHAT): pip installs WHAT unless the stamp in $(VENV) has today's digest.
define install
	@digest=$$($(VENV)/bin/python -c "$$REQUIREMENTS_DIGEST") || exit 1; \
	stamp=$(VENV)/.installed-$(1); \
	if [ "$$(cat $$stamp 2>/dev/null)" != "$$digest" ]; then \
		$(MODULE) pip install --disable-pip-version-check --editable '$(2)' \
		&& echo $$digest > $$stamp; \
	fi
endef

# $(call debian,COMMAND:PACKAGE ...,WITHOUT): apt installs the packages whose commands are missing, where
# it may; else it is said what is WITHOUT them.
define debian
	@missing=; \
	for tool in $(1); do \
		command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$missing && exit 0; \
	fi; \
	echo "Not installed:$$missing. $(2)"
endef

# The shipped weights in fp32, in which any engine gives the same tokens.
EXACT := android_demo/build/exact
APP := android_demo/app/target

.PHONY: help setup demo picture test test-slow test-android bench-android lint report matrix release-model clean \
	runtime tools jdk android-tools android-recordings apk android-picture
.DELETE_ON_ERROR: # half a virtual environment is none

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/bin/python tools ## everything for development (the first time PyTorch: 5 GB)
	$(call install,dev,.[dev])

demo: runtime ## transcribe the samples, streamed (no PyTorch needed)
	@if [ -t 1 ]; then realtime=--realtime; fi; \
	$(VENV)/bin/asr transcribe $$realtime $(sort $(wildcard data/samples/*.wav data/samples/*.flac))

picture: $(VENV)/bin/python tools ## draw data/mic.svg and data/page.png: asr mic and the web page
	$(call install,picture,.[serve])
	@$(MODULE) tests.asr.mic_picture data/mic.svg
	@$(MODULE) tests.asr.serving.page_picture data/page.png

lint: setup ## ruff and mypy
	@$(MODULE) ruff check .
	@$(MODULE) ruff format --check .
	@$(MODULE) mypy

# Two at a time, by the file, whose tests may share what is dear to make; pytest alone runs one by one.
test: lint ## lint and the quick tests
	@$(MODULE) pytest --numprocesses 2 --dist loadfile

test-slow: setup ## the tests that take minutes
	@$(MODULE) pytest -m slow

# The JSON that the app's benchmark wrote in its tests is then read by asr report.
test-android: runtime jdk android-tools $(EXACT)/bundle.json android-recordings ## test the Android app and its core (needs JDK 17 and Maven)
	@if command -v aapt2 >/dev/null; then \
		$(MAVEN) test && $(VENV)/bin/asr report android_demo/build/report.html \
			$(APP)/bench.json $(APP)/sustained.json; \
	else \
		echo "Without aapt2 (Debian: apt install aapt) only the core is tested."; \
		$(MAVEN) -pl core test; \
	fi

apk: jdk android-tools ## make an APK of the app without the engine's Android library
	@$(MAVEN) -Papk -Dmaven.test.skip=true package
	@echo "$(APP)/earshot-without-engine.apk: signed with a throwaway key. It shows that the code dexes and the"
	@echo "resources link, but can't recognise: libonnxruntime.so for Android is missing from it. The"
	@echo "whole app: gradle assembleDebug in android_demo (needs an Android SDK)."

android-picture: jdk android-tools ## draw data/android.png: the app's screens
	@$(MAVEN) -Dtest=ScreensTest -Dsurefire.failIfNoSpecifiedTests=false test
	@cp $(APP)/android.png data/android.png

bench-android: runtime jdk ## time per chunk of 320 ms in Python and on the JVM, in turns
	@$(MAVEN) -pl core test-compile
	@for turn in 1 2 3; do \
		$(MODULE) tests.chunk_times && $(MAVEN) -pl core exec:java || exit 1; \
	done

# Where it is measured: transcribed recordings, such as REPORT_ON="a/manifest.jsonl b/manifest.jsonl --split dev".
REPORT_ON ?= data/samples/manifest.jsonl
REPORTS := build/report

report: setup ## measure the built-in model, on REPORT_ON, and draw build/report/report.html and data/report.png
	@mkdir -p $(REPORTS)
	@$(VENV)/bin/asr eval $(REPORT_ON) --report $(REPORTS)/eval.json
	@$(VENV)/bin/asr bench --report $(REPORTS)/bench.json
	@$(VENV)/bin/asr bench --sustained 3 --report $(REPORTS)/sustained.json
	@$(VENV)/bin/asr peers $(REPORT_ON) --limit 40 --checkpoint data/model --report $(REPORTS)/peers.json
	@$(VENV)/bin/asr tune $(REPORT_ON) --limit 40 --dry-run --report $(REPORTS)/tune.json
	@$(VENV)/bin/asr report $(REPORTS)/report.html $(wildcard $(REPORTS)/matrix.json) \
		$(foreach name,eval bench sustained peers tune,$(REPORTS)/$(name).json) --markdown $(REPORTS)/report.md
	@$(MODULE) tests.asr.report_picture $(REPORTS)/report.html data/report.png

# With DATA=DIR, as of release-model, its first development set; else the samples.
MATRIX_ON := $(if $(DATA),$(wildcard $(DATA)/speech/librispeech-*/manifest.jsonl) --split dev)

VARIANTS := $(foreach name,plain fp32 int4 executorch,build/$(name)/bundle.json)

matrix: setup $(VARIANTS) ## the built-in model beside its other forms: renews data/RESULTS.md
	@mkdir -p $(REPORTS)
	@$(VENV)/bin/asr bench $(MATRIX_ON) --matrix data/matrix.yaml --table data/RESULTS.md \
		--report $(REPORTS)/matrix.json

build/plain/bundle.json: FORM := --plain
build/fp32/bundle.json: FORM := --precision fp32
build/int4/bundle.json: FORM := --precision int4
build/executorch/bundle.json: FORM := --engine executorch --precision int8
build/executorch/bundle.json: $(wildcard export/executorch/*.py training/compression/*.py)
$(VARIANTS): data/model/model.safetensors asr/bundle.py \
		$(wildcard export/*.py export/fused/*.py training/model/*.py)
	@mkdir -p build
	@$(VENV)/bin/asr-export data/model $(@D) $(FORM) --overwrite

release-model: setup ## make the run RUN=work/NAME the built-in model, measured on DATA=DIR, if it is better
	$(if $(and $(RUN),$(DATA)),,$(error give both: make release-model RUN=work/NAME DATA=DIR))
	@$(MODULE) export.release $(RUN) --data $(DATA) $(if $(RECIPE),--recipe $(RECIPE)) \
		$(if $(HEARD_HOURS),--heard-hours $(HEARD_HOURS)) $(if $(LIMIT),--limit $(LIMIT))

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist android_demo/build android_demo/*/target .release-* .emulation *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find asr training export tests -name __pycache__ -prune -exec rm -rf {} +

runtime: $(VENV)/bin/python
	$(call install,runtime,.)

$(VENV)/bin/python:
	$(if $(BASE_PYTHON),,$(error $(or $(PYTHON),python3.11 or python3) is not Python 3.11 or newer \
		with venv. Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=...))
	$(BASE_PYTHON) -m venv --upgrade-deps $(VENV)

# Kotlin's compiler daemon would stay, with 2 GB. Artifacts that are there are not asked for again, so
# after the first time this needs no network.
MAVEN := mvn --batch-mode --quiet --file android_demo -Dkotlin.compiler.daemon=false

jdk:
	@command -v mvn >/dev/null && command -v javac >/dev/null || { \
		echo "No JDK or no Maven here. Debian: apt install openjdk-17-jdk-headless maven"; exit 1; }

# Debian's tools for Android: without aapt2 the app isn't tested, without the others there is no APK.
android-tools:
	$(call debian,aapt2:aapt zipalign:zipalign apksigner:apksigner 7z:p7zip-full,What needs them is left out or fails.)

# Only torch can export them.
$(EXACT)/bundle.json: data/model/model.safetensors asr/bundle.py export/bundle.py \
		$(wildcard export/fused/*.py training/model/*.py)
	@if $(VENV)/bin/python -c 'import torch' 2>/dev/null; then \
		$(MODULE) export.golden_vectors exact $(EXACT); \
	else \
		echo "No PyTorch in $(VENV): tests in fp32 are skipped (make setup installs it)."; \
	fi

android-recordings:
	@rm -rf android_demo/build/texts
	$(if $(RECORDINGS),@$(MODULE) export.golden_vectors texts $(RECORDINGS) android_demo/build/texts,\
		@echo "Without RECORDINGS=manifest.jsonl, int8 is compared with Python's on the samples alone.")

# Debian's tools for some tests: flite, festival and espeak-ng speak, sctk scores,
# chromium opens the web page.
FESTIVAL := $(addprefix festival:,festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts)

tools:
	$(call debian,flite:flite $(FESTIVAL) espeak-ng:espeak-ng sctk:sctk chromium:chromium,Tests that need them are skipped.)

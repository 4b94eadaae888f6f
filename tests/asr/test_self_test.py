"""The self-test runs at the first load on a machine; no full disk or damaged note is in its way."""

import json
from pathlib import Path

import pytest

import asr
from asr.bundle import Bundle, GoldenErrors, open_bundle
from asr.engines import Engine, open_engine
from asr.errors import BundleError
from asr.profile import profile_key, profile_path
from asr.self_test import LoadCost, SelfTest, read_self_test, verify_once

COST = LoadCost(12.0, 3.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


class Verifying:
    """Counts self-tests, in place of running them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BundleError | None = None) -> None:
        self.runs, self.error = 0, error
        monkeypatch.setattr("asr.engines.golden.verify_golden", self)

    def __call__(self, bundle: Bundle, engine: Engine, precision: str) -> GoldenErrors:
        self.runs += 1
        if self.error is not None:
            raise self.error
        return GoldenErrors(0.25, 0.5)


def verify(bundle: Bundle, threads: int = 1) -> SelfTest:
    key = profile_key(bundle, "int8", threads)
    return verify_once(bundle, bundle.graphs("int8"), open_engine(bundle), key, COST)


def test_a_machine_is_tested_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    verifying = Verifying(monkeypatch)
    first = verify(bundle)
    assert first == verify(bundle) == SelfTest(GoldenErrors(0.25, 0.5), COST)
    assert verifying.runs == 1
    assert read_self_test(profile_key(bundle, "int8", 1)) == first


def test_another_runtime_is_tested_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    verifying = Verifying(monkeypatch)
    verify(bundle)
    monkeypatch.setattr("onnxruntime.__version__", "99.0")
    verify(bundle)
    assert verifying.runs == 2


def test_a_failure_is_never_remembered_as_passed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifying = Verifying(monkeypatch, BundleError("the self-test failed"))
    for runs in (1, 2):
        with pytest.raises(BundleError, match="self-test failed"):
            verify(bundle)
        assert verifying.runs == runs


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"errors": {}, "cost": {}}, {"errors": {"encoder_out": 0, "log_probs": "x"}}],
)
def test_a_damaged_note_is_none(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    verifying = Verifying(monkeypatch)
    verify(bundle)
    path = profile_path(profile_key(bundle, "int8", 1))
    path.write_text(json.dumps({**json.loads(path.read_text()), "self_test": content}))
    assert verify(bundle) == SelfTest(GoldenErrors(0.25, 0.5), COST)
    assert verifying.runs == 2


def test_where_nothing_can_be_kept_a_model_loads_all_the_same(
    tiny_bundle: Path, cache: Path, recwarn: pytest.WarningsRecorder
) -> None:
    cache.write_text("a file where the directory should be")
    for _ in range(2):
        assert asr.load(tiny_bundle).precision == "int8"
    assert not recwarn.list

"""The onnxruntime engine carries the encoder's state, and the self-test notices when it doesn't."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.bundle import Bundle, file_entry, open_bundle
from asr.engines import Engine, open_engine
from asr.engines.golden import verify_golden
from asr.errors import AsrError, BundleError
from tests.asr.tiny_bundle import JOINER_DIM, PIECES, write_manifest


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle)


def features(frames: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((frames, 80)).astype(np.float32)


def contexts(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64)


@pytest.mark.parametrize("chunk", [1, 4, 8, 16, 33])
def test_shapes_for_any_chunk(engine: Engine, chunk: int) -> None:
    encoder_out, _ = engine.encode(features(4 * chunk + 3), engine.initial_state())
    assert encoder_out.shape == (chunk, JOINER_DIM)
    log_probs = engine.join(encoder_out, engine.predict(contexts((-1, 0))))
    assert log_probs.shape == (chunk, len(PIECES))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)


def test_joining_frames_together_or_one_by_one_is_the_same(engine: Engine) -> None:
    encoder_out, _ = engine.encode(features(35), engine.initial_state())
    predictor_out = engine.predict(contexts((3, 4)))
    together = engine.join(encoder_out, predictor_out)
    for frame in range(8):
        alone = engine.join(encoder_out[frame : frame + 1], predictor_out)
        np.testing.assert_allclose(alone[0], together[frame], atol=1e-6)


def test_hypotheses_together_or_one_by_one_are_the_same(engine: Engine) -> None:
    """What a beam does: each frame joined with a context of its own."""
    encoder_out, _ = engine.encode(features(15), engine.initial_state())
    pairs = [(-1, 0), (2, 3), (3, 2)]
    predictor_out = engine.predict(contexts(*pairs))
    assert predictor_out.shape == (3, JOINER_DIM)
    together = engine.join(encoder_out, predictor_out)
    for row, pair in enumerate(pairs):
        alone = engine.predict(contexts(pair))
        np.testing.assert_allclose(alone[0], predictor_out[row], atol=1e-6)
        joined = engine.join(encoder_out[row : row + 1], alone)
        np.testing.assert_allclose(joined[0], together[row], atol=1e-6)


def test_the_state_goes_on_and_is_never_changed_in_place(engine: Engine) -> None:
    window = features(35)
    start = engine.initial_state()
    first, state = engine.encode(window, start)
    second, _ = engine.encode(window, state)
    assert np.abs(first - second).max() > 1e-3, "the caches make no difference"
    again, _ = engine.encode(window, start)
    np.testing.assert_array_equal(first, again)
    later, _ = engine.encode(window, state)
    np.testing.assert_array_equal(second, later)


def test_processed_frames_count_feature_frames(engine: Engine) -> None:
    _, state = engine.encode(features(35), engine.initial_state())
    assert state.processed_frames == 32
    _, state = engine.encode(features(11), state)
    assert state.processed_frames == 40


def test_a_remembered_predictor_output_can_not_be_altered(engine: Engine) -> None:
    out = engine.predict(contexts((2, 3)))
    with pytest.raises(ValueError, match="read-only"):
        out[0, 0] = 1.0
    assert engine.predict(contexts((2, 3))) is out


def test_impossible_threads_and_precision(bundle: Bundle) -> None:
    with pytest.raises(AsrError, match="0 threads"):
        open_engine(bundle, threads=0)
    with pytest.raises(BundleError, match="no precision 'int4'"):
        open_engine(bundle, "int4")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux counts threads there")
def test_no_thread_is_started_unless_it_is_asked_for(tiny_bundle: Path, bundle: Bundle) -> None:
    """By default a model computes in the thread of its caller: however many cores a phone has, it
    takes one, and no pool spins on the others."""

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    recognizer = asr.load(tiny_bundle)
    recognizer.stream().accept(np.zeros(16_000, np.int16))
    assert threads() == before
    more = open_engine(bundle, threads=2)
    assert threads() > before
    del more


def test_graphs_for_another_engine_are_named(bundle: Bundle) -> None:
    graphs = replace(bundle.graphs("int8"), engine="abacus")
    message = r"the engine 'abacus'.*--upgrade 'earshot-asr\[abacus\]'"
    with pytest.raises(BundleError, match=message):
        open_engine(replace(bundle, variants=(graphs,)))


def test_a_graph_that_does_not_load_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (path / "joiner.int8.onnx").write_bytes(b"not a graph")
    write_manifest(path)
    with pytest.raises(BundleError, match=r"joiner\.int8\.onnx: onnxruntime .* can't load it"):
        open_engine(open_bundle(path))


def test_a_graph_in_the_place_of_another_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    shutil.copy(path / "joiner.int8.onnx", path / "encoder.int8.onnx")
    write_manifest(path)
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx: 2 inputs and 1 outputs"):
        open_engine(open_bundle(path))


@pytest.mark.parametrize(
    ("key", "graph", "message"),
    [
        ("encoder_layers", "encoder", r"attn_cache is \[2, 64, 1, 8\], but bundle.json says \[3,"),
        ("encoder_dim", "encoder", "attn_cache is"),
        ("conv_kernel", "encoder", r"conv_cache is \[2, 4, 1, 8\]"),
        ("joiner_dim", "encoder", "encoder_out is"),
        ("context_size", "predictor", r"y is \['N', 2\], but bundle.json says \[None, 3\]"),
        ("vocab_size", "joiner", r"log_probs is \['N', 12\]"),
    ],
)
def test_sizes_that_the_graphs_do_not_have_are_named(
    bundle: Bundle, key: str, graph: str, message: str
) -> None:
    """bundle.json has no checksum. Without this, a wrong size is a traceback or a full memory."""
    wrong = replace(bundle, model=replace(bundle.model, **{key: 10**9 if "dim" in key else 3}))
    with pytest.raises(BundleError, match=rf"{graph}\.int8\.onnx: {message}"):
        open_engine(wrong)


def test_a_graph_that_does_not_run_is_named(engine: Engine) -> None:
    with pytest.raises(BundleError, match=r"encoder\.int8\.onnx: onnxruntime .* can't run it"):
        engine.encode(features(35)[:, :40], engine.initial_state())


def test_the_self_test_passes_here(bundle: Bundle, engine: Engine) -> None:
    found = verify_golden(bundle, engine, "int8")
    assert found.encoder_out < 1e-5
    assert found.log_probs < 1e-5


class Miscomputing:
    """An engine that goes wrong in one of the ways that a machine or a runtime can."""

    def __init__(self, engine: Engine, fault: str) -> None:
        self.engine, self.fault = engine, fault
        self.initial_state = engine.initial_state

    def encode(self, window: np.ndarray, state: object) -> tuple[np.ndarray, object]:
        encoder_out, following = self.engine.encode(window, state)
        if self.fault == "nan":
            encoder_out[3, 3] = np.nan
        elif self.fault == "saturated":
            encoder_out[5] *= 0.9
        elif self.fault == "state lost":
            following = self.engine.initial_state()
        return encoder_out, following

    def predict(self, pairs: np.ndarray) -> np.ndarray:
        return self.engine.predict(pairs[:, ::-1] if self.fault == "tokens swapped" else pairs)

    def join(self, encoder_out: np.ndarray, predictor_out: np.ndarray) -> np.ndarray:
        log_probs = self.engine.join(encoder_out, predictor_out)
        if self.fault == "one label lost":
            log_probs[:, 7] = -20
        return log_probs


@pytest.mark.parametrize(
    ("fault", "output"),
    [
        ("nan", "encoder_out"),
        ("saturated", "encoder_out"),
        ("state lost", "encoder_out"),
        ("tokens swapped", "log_probs"),
        ("one label lost", "log_probs"),
    ],
)
def test_the_self_test_fails_on_a_miscomputing_machine(
    bundle: Bundle, engine: Engine, fault: str, output: str
) -> None:
    message = f"self-test failed: on this machine {output} of the int8 graphs is off by"
    with pytest.raises(BundleError, match=message):
        verify_golden(bundle, Miscomputing(engine, fault), "int8")


def test_a_golden_file_that_does_not_fit_is_named(
    bundle: Bundle, engine: Engine, tmp_path: Path
) -> None:
    golden = tmp_path / "golden.npz"

    def verify() -> None:
        files = {**bundle.files, "golden.npz": file_entry(golden)}
        verify_golden(replace(bundle, path=tmp_path, files=files), engine, "int8")

    np.savez_compressed(golden, features=np.zeros((100_000, 80), np.float32))
    with pytest.raises(BundleError, match=r"golden\.npz: can't be used: its arrays are compressed"):
        verify()
    with zipfile.ZipFile(golden, "w") as file:
        head = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 48, 80)}
        np.lib.format.write_array_header_1_0(head, shape)
        file.writestr("features.npy", head.getvalue())
    with pytest.raises(BundleError, match=r"golden\.npz: can't be used"):
        verify()
    golden.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"golden\.npz: can't be used"):
        verify()
    with golden.open("wb") as file:
        np.save(file, features(67))
    with pytest.raises(BundleError, match=r"golden\.npz: can't be used"):
        verify()
    np.savez(golden, features=features(67))
    with pytest.raises(BundleError, match=r"golden\.npz: can't be used"):
        verify()
    expected = {
        "encoder_out.int8": np.zeros((16, JOINER_DIM), np.float32),
        "contexts": np.zeros((16, 2), np.int64),
        "log_probs.int8": np.zeros((16, len(PIECES)), np.float32),
    }
    np.savez(golden, features=features(67), **expected | {"contexts": np.zeros((3, 2), np.int64)})
    with pytest.raises(BundleError, match=r"contexts of shape \(3, 2\), int64; expected \(16, 2\)"):
        verify()
    np.savez(golden, features=features(20), **expected)
    with pytest.raises(BundleError, match=r"features of shape \(20, 80\)"):
        verify()
    np.savez(golden, features=features(35), **expected)
    with pytest.raises(BundleError, match=r"shape \(8, 16\), expected \(16, 16\)"):
        verify()


def test_memory_is_given_back_and_nothing_else_changes() -> None:
    """In a process of its own, so that the memory is this engine's, and with a model of real size.
    A call of 10 s is what makes the arena large."""
    code = """
import numpy as np
from asr.bundle import builtin_bundle_path, open_bundle
from asr.engines import open_engine
from asr.memory import resident_mb, trim_heap

engine = open_engine(open_bundle(builtin_bundle_path()))
features = np.random.default_rng(5).standard_normal((4 * 256 + 3, 80)).astype(np.float32)
first, state = engine.encode(features[:35], engine.initial_state())
for _ in range(2):  # the first of a length only learns what it needs
    expected, _ = engine.encode(features, state)
before = resident_mb()
engine.release_memory()
trim_heap()
print(before - resident_mb())
np.testing.assert_array_equal(engine.encode(features, state)[0], expected)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 5, "MB"

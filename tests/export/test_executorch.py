"""A model as a program for ExecuTorch: whole, equal to the model, and refused when it is not.

Lowering is slow, so that one program serves all quick tests: three layers, int8, chunks of 320 ms.
"""

import copy
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from executorch.extension.pybindings import portable_lib
from torch import nn

from asr import load
from asr.bundle import Bundle, Golden, GoldenErrors, GraphFiles, StreamingConfig, file_entry
from asr.bundle import ModelConfig as BundleModelConfig
from asr.engines import executorch as engine_module
from asr.engines import open_engine
from asr.engines.executorch import MAX_JOINED, ExecutorchEngine, ExecutorchState, set_threads
from asr.errors import AsrError, BundleError, ExportError
from asr.evaluation.accuracy.edit_distance import edit_distance
from export.bundle import write_bundle
from export.executorch.lowering import (
    Method,
    Program,
    lower,
    metadata,
    methods,
)
from export.executorch.verify import (
    describe_lowering,
    model_caches,
    verify_lowering,
    verify_program,
    verify_rewrite,
)
from export.frontend import frontend_program
from export.pipeline import ExportOptions, export_bundle, verified_contents
from tests.samples import SAMPLES
from training.compression.quantization import (
    PRECISIONS,
    FakeQuantizedLinear,
    absorb_norms,
    fake_quantize,
    quantize_linears,
)
from training.model import EncoderState, ModelConfig, Transducer, initial_state
from training.model.config import HEAD_DIM

torch.set_num_threads(1)
pytestmark = pytest.mark.timeout(1800)  # the lowering, on a machine with other work

STREAMING = StreamingConfig(left_context_frames=24)
CONFIG = ModelConfig(vocab_size=30, dim=64, layers=3, conv_kernel=7)
USED = ("encoder_320", "predictor", "joiner")


class Unloadable:
    """A program of which ExecuTorch can load no method."""

    def load_method(self, name: str) -> None:
        raise RuntimeError("0x10")


@pytest.fixture(scope="module")
def model() -> Transducer:
    torch.manual_seed(0)
    model = Transducer(CONFIG).eval()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.3)
    return model


@pytest.fixture(scope="module")
def parts(model: Transducer) -> dict[str, Method]:
    everything = methods(model, STREAMING, "int8")
    return {name: everything[name] for name in USED}


@pytest.fixture(scope="module")
def program(parts: dict[str, Method]) -> Program:
    return lower(parts, metadata(CONFIG, STREAMING))


def make_bundle(folder: Path, content: bytes) -> Bundle:
    """A bundle around a program, without what the engine does not read."""
    folder.mkdir(exist_ok=True)
    (folder / "model.int8.pte").write_bytes(content)
    graphs = GraphFiles("executorch", "int8", *3 * ["model.int8.pte"])
    dimensions = BundleModelConfig(
        encoder_layers=CONFIG.layers,
        encoder_dim=CONFIG.dim,
        conv_kernel=CONFIG.conv_kernel,
        joiner_dim=CONFIG.joiner_dim,
        context_size=CONFIG.context_size,
        vocab_size=CONFIG.vocab_size,
        parameters=1,
    )
    return Bundle(
        path=folder,
        name="tiny",
        language="en",
        model=dimensions,
        variants=(graphs,),
        files={path.name: file_entry(path) for path in folder.iterdir()},
        golden=Golden("golden.npz", {"int8": GoldenErrors(1, 1)}),
        streaming=STREAMING,
    )


@pytest.fixture
def bundle(tmp_path: Path, program: Program) -> Bundle:
    return make_bundle(tmp_path / "bundle", program.content)


@pytest.fixture
def engine(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> ExecutorchEngine:
    monkeypatch.setattr(engine_module, "CHUNKS", (8,))  # the one that was lowered
    opened = open_engine(bundle)
    assert isinstance(opened, ExecutorchEngine)
    return opened


def test_the_rewritten_modules_compute_what_the_model_computes(model: Transducer) -> None:
    """All chunk sizes, a state longer than the context, a padded chunk in the middle."""
    assert verify_rewrite(model, STREAMING).worst < 1e-4


def test_a_wrong_rewrite_is_noticed(model: Transducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.executorch.rewrite.absorb_norms", lambda encoder: None)
    with pytest.raises(ExportError, match=r"encoder_160 differs from the model by"):
        verify_rewrite(model, STREAMING)


def test_nothing_requires_a_gradient(parts: dict[str, Method]) -> None:
    """Else torch.export refuses what writes to it: "a leaf Variable that requires grad"."""
    for part in parts.values():
        assert not any(weight.requires_grad for weight in part.module.parameters())


def test_the_program_computes_what_the_quantized_modules_compute(
    program: Program, parts: dict[str, Method], model: Transducer
) -> None:
    errors = verify_program(program, parts, model, "int8").errors
    assert set(errors) == set(USED) and max(errors.values()) < 0.02


def test_each_method_is_one_piece_for_xnnpack(program: Program) -> None:
    verify_lowering(program)
    assert all(method.partitions == 1 for method in program.methods.values())
    assert not program.methods["encoder_320"].outside


def test_an_undelegated_operation_is_named() -> None:
    """A LayerNorm left in the model would run, and be slow."""
    whole = lower({"norm": Method(nn.LayerNorm(8).eval(), (torch.zeros(1, 2, 8),))})
    with pytest.raises(ExportError, match=r"norm falls into .*native_layer_norm"):
        verify_lowering(whole)


def test_methods_share_their_weights_in_the_file() -> None:
    """Else three chunk sizes would be three models. Each method has a copy, quantized by itself."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(256, 512)).eval().requires_grad_(False)
    parts = {}
    for frames in (4, 8, 16):
        own = copy.deepcopy(layer)
        quantize_linears(own, "int8")
        parts[f"of_{frames}"] = Method(own, (torch.zeros(1, frames, 256),))
    sizes = [len(lower(dict(list(parts.items())[:count])).content) for count in (1, 3)]
    assert 256 * 512 < sizes[0] < sizes[1] < sizes[0] + 256 * 512 / 4


def test_the_card_says_how_each_method_was_lowered(
    program: Program, parts: dict[str, Method], model: Transducer
) -> None:
    card = describe_lowering(program, verify_program(program, parts, model, "int8"))
    assert list(card) == list(parts)
    assert {name: facts["partitions"] for name, facts in card.items()} == dict.fromkeys(parts, 1)
    assert card["encoder_320"]["outside"] == []
    assert card["predictor"]["outside"] == ["aten.add.Tensor", "aten.embedding.default"]
    assert all(0 < facts["max_error"] < 0.1 for facts in card.values())


def test_a_program_that_does_not_load_is_refused(
    program: Program,
    parts: dict[str, Method],
    model: Transducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one does whose graph was quantized statically: it had been lowered without a word."""
    monkeypatch.setattr(portable_lib, "_load_program_from_buffer", lambda content: Unloadable())
    with pytest.raises(ExportError, match=r"encoder_320 was lowered, but .* can't load it: 0x10"):
        verify_program(program, parts, model, "int8")


def test_only_linear_layers_are_quantized_and_all_of_them(parts: dict[str, Method]) -> None:
    """Dynamically: with scales of each frame, where a static scale would be of some recordings."""
    for part in parts.values():
        for layer in part.module.modules():
            if isinstance(layer, nn.Linear):
                assert type(layer.weight).__name__ == "IntxUnpackedToInt8Tensor"
                assert layer.weight.activation_quantization == "int8_asym_per_token"
            else:
                own = layer.parameters(recurse=False)
                assert all(type(weight) in (nn.Parameter, torch.Tensor) for weight in own)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_and_export_quantize_the_same_layers(model: Transducer, precision: str) -> None:
    """With as many bits, and the same norms in them. Layer by layer, for rounding is chaotic: of
    all layers together a millionth more of input costs as much as quantization does."""
    exact, trained = copy.deepcopy(model), copy.deepcopy(model)
    absorb_norms(exact.encoder)
    fake_quantize(trained, precision)
    lowered = methods(model, STREAMING, precision)
    torch.manual_seed(0)
    compared = 0
    for part in ("encoder", "predictor", "joiner"):
        module = lowered["encoder_320" if part == "encoder" else part].module
        exported = module.encoder if part == "encoder" else module
        for name, layer in trained.get_submodule(part).named_modules():
            if not isinstance(layer, FakeQuantizedLinear):
                continue
            x, shared = torch.randn(8, layer.in_features), name.rpartition(".")[2]
            with torch.no_grad():
                expected, free = layer(x), exact.get_submodule(f"{part}.{name}")(x)
                if shared in ("query", "key_value"):  # one layer, and the queries are scaled
                    found = exported.get_submodule(name.replace(shared, "query_key_value"))(x)
                    width = CONFIG.dim
                    query, key_value = found[:, :width] * HEAD_DIM**0.5, found[:, width:]
                    found = query if shared == "query" else key_value
                else:
                    found = exported.get_submodule(name)(x)
            cost = (expected - free).abs().mean()
            assert cost > 0 and (found - expected).abs().mean() < 0.2 * cost, name
            compared += 1
    assert compared == 2 + 1 + 2 + 9 * CONFIG.layers


def test_groups_of_int4_are_delegated() -> None:
    """XNNPACK has kernels for 4 bits with a scale a group; others would be dequantized, slowly."""
    torch.manual_seed(0)
    layers = nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 64))})
    module, x = nn.Sequential(layers["blocks"]).eval().requires_grad_(False), torch.randn(1, 8, 64)
    with torch.no_grad():
        exact = module(x)
        quantize_linears(layers, "int4")
        expected = module(x)
    lowered = lower({"blocks": Method(module, (x,))})
    verify_lowering(lowered)
    assert len(lowered.content) < 2 * 64 * 128 * 4 / 3, "float weights would be 65 kB"
    set_threads(portable_lib, 1)
    method = portable_lib._load_program_from_buffer(lowered.content).load_method("blocks")
    found = method.call((x,))[0]
    assert (found - expected).abs().mean() < (expected - exact).abs().mean() / 5


def test_a_model_in_training_is_refused(model: Transducer) -> None:
    training = Transducer(CONFIG).train()
    with pytest.raises(ExportError, match=r"model\.eval\(\)"):
        methods(training, STREAMING)


def test_a_left_context_shorter_than_the_convolutions_is_refused(model: Transducer) -> None:
    with pytest.raises(ExportError, match=r"left_context_frames is 5, .* last 6 frames"):
        methods(model, replace(STREAMING, left_context_frames=5))


def test_streams_through_the_engine_are_those_of_the_model(
    engine: ExecutorchEngine, model: Transducer
) -> None:
    """Quantized, so near; with a shorter chunk between, whose padding must leave no trace."""
    state, reference = engine.initial_state(), EncoderState(*initial_state(CONFIG, 1, 24))
    torch.manual_seed(0)
    for frames in [8] * 10 + [3, 8, 1]:
        features = torch.randn(4 * frames + 3, 80)
        with torch.no_grad():
            out = model.encoder(features[None], reference)
        found, state = engine.encode(features.numpy(), state)
        reference = out.state
        assert found.shape == (frames, CONFIG.joiner_dim)
        expected = out.frames[0].numpy()
        assert np.abs(found - expected).mean() < 0.05 * expected.std()
        attention, convolution = model_caches(state, CONFIG)
        assert (convolution[:, 0] == reference.conv[:, 0]).all()
        assert (convolution - reference.conv).abs().mean() < 0.05
        assert (attention - reference.attention).abs().mean() < 0.05


def test_a_device_drives_a_stream_as_the_readme_says(
    program: Program, engine: ExecutorchEngine
) -> None:
    """The loop of its C++, in numpy: one memory whose rows grow at its end."""
    method = portable_lib._load_program_from_buffer(program.content).load_method("encoder_320")
    left, width, room = 24, 3 * CONFIG.layers * CONFIG.dim, 30
    past, start, valid = np.zeros((left + room, width), np.float32), 0, 0
    state, chance = engine.initial_state(), np.random.default_rng(0)
    for n in [8] * 9 + [3]:
        features = np.zeros((1, 35, 80), np.float32)
        features[0, : 4 * n + 3] = chance.standard_normal((4 * n + 3, 80))
        counts = np.array([valid, n], np.float32)
        inputs = features, past[start : start + left], counts
        frames, rows = method.call([torch.from_numpy(each) for each in inputs])
        if start + n > room:
            past[:left], start = past[start : start + left].copy(), 0
        past[start + left : start + left + n] = rows[0, :n]
        start, valid = start + n, min(left, valid + n)
        expected, state = engine.encode(features[0, : 4 * n + 3], state)
        assert np.array_equal(frames[0, :n].numpy(), expected)


def test_the_readme_names_all_that_a_program_has() -> None:
    text = Path("export/executorch/README.md").read_text(encoding="utf-8")
    names = ["encoder_160", "encoder_320", "encoder_640", "predictor", "joiner"]
    assert [engine_module.encoder_method(chunk) for chunk in engine_module.CHUNKS] == names[:3]
    for name in [*names, *metadata(CONFIG, STREAMING)]:
        assert f"`{name}`" in text
    assert f"N up to {MAX_JOINED}" in text


def test_a_state_may_be_used_twice(engine: ExecutorchEngine) -> None:
    """Streams share the engine, and a stream may go back to a state that it kept."""
    features = np.random.default_rng(0).standard_normal((35, 80)).astype(np.float32)
    _, state = engine.encode(features, engine.initial_state())
    kept = np.concatenate(state.blocks)
    first, _ = engine.encode(features, state)
    engine.encode(2 * features, state)
    engine.encode(2 * features, engine.initial_state())
    second, _ = engine.encode(features, state)
    assert np.array_equal(first, second) and np.array_equal(np.concatenate(state.blocks), kept)
    assert not any(block.any() for block in engine.initial_state().blocks)


def test_states_that_share_rows_are_separate() -> None:
    """Any state may be continued, any number of times, by chunks of any size."""
    chance = np.random.default_rng(0)
    left, width = 8, 3
    states = [ExecutorchState.initial(left, width)]
    expected = [np.zeros((left, width), np.float32)]
    for _ in range(200):
        number = int(chance.integers(max(0, len(states) - 5), len(states)))
        rows = chance.random((int(chance.integers(0, 17)), width), np.float32)
        states.append(states[number].append(rows))
        expected.append(np.concatenate([expected[number], rows])[-left:])
        assert states[-1].valid == min(left, states[number].valid + len(rows))
    for state, rows in zip(states, expected, strict=True):
        assert np.array_equal(np.concatenate(state.blocks), rows)


def test_what_was_returned_stays_as_it_was(engine: ExecutorchEngine) -> None:
    """The next call overwrites the memory of a method's outputs."""
    chance = np.random.default_rng(0)
    features = chance.standard_normal((2, 35, 80), dtype=np.float32)
    frames, state = engine.encode(features[0], engine.initial_state())
    predicted = engine.predict(np.array([[3, 4]]))
    joined = engine.join(frames, predicted)
    kept = frames.copy(), state.blocks[-1].copy(), predicted.copy(), joined.copy()
    engine.encode(features[1], state)
    engine.join(frames[::-1], engine.predict(np.array([[5, 6]])))
    found = frames, state.blocks[-1], predicted, joined
    assert all(np.array_equal(one, other) for one, other in zip(found, kept, strict=True))


def test_features_of_any_memory_are_taken(engine: ExecutorchEngine) -> None:
    """Read-only, or every other row of something."""
    features = np.random.default_rng(0).standard_normal((70, 80), dtype=np.float32)
    expected, _ = engine.encode(features[::2].copy(), engine.initial_state())
    features.flags.writeable = False
    found, _ = engine.encode(features[::2], engine.initial_state())
    assert np.array_equal(found, expected)


def test_calls_of_many_threads_are_apart(engine: ExecutorchEngine) -> None:
    """They write to the same memory, one after the other."""
    features = np.random.default_rng(0).standard_normal((16, 35, 80), dtype=np.float32)
    start = engine.initial_state()
    expected = [engine.encode(chunk, start)[0] for chunk in features]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chunk: engine.encode(chunk, start)[0], features))
    assert np.array_equal(found, expected)


def test_predictor_and_joiner(engine: ExecutorchEngine, model: Transducer) -> None:
    contexts = np.array([[-1, 0], [3, 4], [29, 0]])
    with torch.no_grad():
        expected = model.predictor(torch.from_numpy(contexts)).squeeze(1).numpy()
    found = engine.predict(contexts)
    assert not found.flags.writeable
    assert np.abs(found - expected).max() < 0.1 * expected.std()
    assert np.array_equal(engine.predict(contexts[:1]), found[:1])
    frames = np.random.default_rng(0).standard_normal((70, CONFIG.joiner_dim), dtype=np.float32)
    log_probs = engine.join(frames, found[:1])  # more rows than a call takes
    assert np.abs(np.exp(log_probs).sum(axis=1) - 1).max() < 1e-4
    assert np.abs(engine.join(frames[66:67], found[:1]) - log_probs[66]).max() < 1e-5
    with torch.no_grad():
        exact = model.joiner(torch.from_numpy(frames), torch.from_numpy(expected[:1])).numpy()
    assert np.abs(log_probs - exact).mean() < 0.05


def test_released_memory_is_only_memory(engine: ExecutorchEngine) -> None:
    features = np.ones((35, 80), np.float32)
    before, _ = engine.encode(features, engine.initial_state())
    engine.release_memory()
    after, _ = engine.encode(features, engine.initial_state())
    assert np.array_equal(before, after)


def test_a_chunk_that_is_too_long_says_what_is_possible(engine: ExecutorchEngine) -> None:
    with pytest.raises(AsrError, match=r"1280 ms.*at most \d+ ms"):
        engine.encode(np.zeros((4 * 32 + 3, 80), np.float32), engine.initial_state())


def test_threads_are_those_of_the_process(bundle: Bundle, engine: ExecutorchEngine) -> None:
    """Another size would crash the methods that are loaded."""
    with pytest.raises(AsrError, match="2 threads, but"):
        open_engine(bundle, threads=2)
    with pytest.raises(AsrError, match="0 threads"):
        open_engine(bundle, threads=0)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_program_is_refused(tmp_path: Path, program: Program, share: float) -> None:
    content = program.content[: int(share * len(program.content))]
    with pytest.raises(BundleError, match=r"model\.int8\.pte: \d+ bytes.*again"):
        open_engine(make_bundle(tmp_path, content))


def test_another_schema_is_refused(tmp_path: Path, program: Program) -> None:
    content = program.content[:4] + b"ET99" + program.content[8:]
    with pytest.raises(BundleError, match=r"model\.int8\.pte: its schema is b'ET99'.*ET12"):
        open_engine(make_bundle(tmp_path, content))


def test_a_header_of_nonsense_is_refused(tmp_path: Path, program: Program) -> None:
    """The loader follows any offset, out of the file too."""
    content = bytearray(program.content)
    struct.pack_into("<Q", content, 24, 2**40)
    with pytest.raises(BundleError, match="it was cut"):
        open_engine(make_bundle(tmp_path, bytes(content)))


def test_a_program_of_another_model_is_refused(bundle: Bundle) -> None:
    other = replace(bundle, model=replace(bundle.model, vocab_size=31))
    with pytest.raises(BundleError, match="vocab_size is 30, expected 31"):
        open_engine(other)


def test_a_zip_is_read_in_memory(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CHUNKS", (8,))
    bundle = make_bundle(tmp_path, program.content)
    monkeypatch.setattr(Bundle, "file", lambda *_: None)
    features = np.ones((35, 80), np.float32)
    opened = open_engine(bundle)
    assert opened.encode(features, opened.initial_state())[0].shape == (8, CONFIG.joiner_dim)


def test_without_executorch_the_error_says_how_to_get_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings", None)
    with pytest.raises(BundleError, match=r"pip install 'earshot-asr\[executorch\]'"):
        open_engine(bundle)


@pytest.mark.parametrize("missing", ["executorch", "torchao"])
def test_an_export_without_executorch_says_so_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(
        "export.executorch.find_spec", lambda name: None if name == missing else "found"
    )
    message = rf"needs {missing} to be installed: pip install 'earshot-asr\[executorch\]'"
    options = ExportOptions(tmp_path / "no checkpoint", tmp_path / "out", engines=("executorch",))
    with pytest.raises(ExportError, match=message):
        export_bundle(options, print)
    with pytest.raises(ExportError, match=message):
        frontend_program()


def test_nothing_is_written_to_the_terminal(bundle: Bundle) -> None:
    """ExecuTorch tells of the processor's files that it misses, once a process."""
    script = (
        "from executorch.extension.pybindings import portable_lib\n"
        "from asr.engines.executorch import set_threads\n"
        "set_threads(portable_lib, 1)\n"
        f"portable_lib._load_program({str(bundle.path / 'model.int8.pte')!r})"
        ".load_method('predictor')\n"
        "print('loaded')"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout == "loaded\n" and "cpuinfo" not in run.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_built_in_model_gives_the_same_words(tmp_path: Path, precision: str) -> None:
    """Float exactly those of onnxruntime; int8 but for a word in each."""
    contents = verified_contents(Path("data/model"), "en", lambda message: None, (precision,))
    contents = replace(contents.with_precisions([precision]), engines=("onnx", "executorch"))
    bundle = write_bundle(tmp_path / "bundle", contents)
    onnx, executorch = (
        [load(bundle.path, engine=engine).transcribe(sample.path).text for sample in SAMPLES]
        for engine in ("onnx", "executorch")
    )
    different = sum(
        edit_distance(one.split(), other.split())
        for one, other in zip(onnx, executorch, strict=True)
    )
    assert different <= (0 if precision == "fp32" else len(SAMPLES))

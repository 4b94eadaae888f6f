"""The ExecuTorch engine, for programs in `.pte` whose arithmetic XNNPACK does.

Of all engines, the only one that imports torch, and only once a bundle asks for it: ExecuTorch's
Python binding is built on it. (Its C++ and Kotlin runtimes are not: a device needs 2 MB.)

What calls were found to depend on, with ExecuTorch 1.4 on x86:

- The thread pool is the process's own. It must have its size before the first method is loaded: a
  method keeps the pool that it was loaded with, and crashes when that was replaced.
- Torch's own functions are dear: 40 to 80 us each where their code has left the processor's caches,
  as it has between two chunks. So tensors are made once, when a method is loaded, and calls copy
  in and out of them with numpy: `encode` of the built-in model took 1.71 ms instead of 1.94.
- Loading believes every offset in a file, and crashes where one leads out of it. A bundle's
  checksums catch damage; `_check_header` catches what was damaged before they were taken.
"""

import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.bundle import SUBSAMPLING_OVERLAP, Bundle, GraphFiles
from asr.engines import Floats
from asr.errors import AsrError, BundleError

PROGRAM_VERSION = 2
"""Of the methods and their shapes; `export.executorch.lowering` describes them."""

CHUNKS = (4, 8, 16)
"""Encoder frames of the chunks that a program has methods for."""

MAX_JOINED = 64
"""Rows of the longest call of the joiner."""

_FRAME_MS = 40
_PREDICTOR_CACHE = 512
"""Contexts whose predictor output is kept, 1 kB each: the frequent word parts repeat them."""

_TYPES = {6: np.float32, 4: np.int64}
"""What a program's inputs are of, by ExecuTorch's number."""

_IDENTIFIER = b"ET12"
_HEADER = struct.Struct("<4s4s4sIQQ")
"""Offset of the root table, identifier, magic of the extended header, its length, size of the
program, offset of the segments; with a length of 32, the size of the segments follows."""


def encoder_method(chunk: int) -> str:
    """Return the name of the method for chunks of so many encoder frames."""
    return f"encoder_{chunk * _FRAME_MS}"


@dataclass(frozen=True, slots=True)
class ExecutorchState:
    """The encoder's past: a row a frame, with what all layers keep of it.

    In the blocks in which they came, which states share: no row is moved or changed.
    """

    blocks: tuple[Floats, ...]  # (n, 3Ld) each, `left` rows in all, the oldest first:
    # of each layer key, value and input of the convolution
    valid: int  # how many rows are of this stream: the newest ones

    @classmethod
    def initial(cls, left: int, width: int) -> "ExecutorchState":
        """Return the state at the start of a stream, with room for `left` rows."""
        return cls((np.zeros((left, width), dtype=np.float32),), 0)

    def append(self, rows: Floats) -> "ExecutorchState":
        """Return the state with new rows `(n, 3Ld)`, which it keeps, without the n oldest."""
        left = sum(map(len, self.blocks))
        blocks, excess = [*self.blocks, rows], len(rows)
        while excess and excess >= len(blocks[0]):
            excess -= len(blocks.pop(0))
        blocks[0] = blocks[0][excess:]
        return ExecutorchState(tuple(blocks), min(left, self.valid + len(rows)))


class ExecutorchEngine:
    """Runs a bundle's `.pte` on the CPU. Implements `asr.engines.Engine`.

    One call runs at a time: a method has one working memory. The encoder's methods are loaded when
    a chunk of their size first comes.
    """

    def __init__(self, bundle: Bundle, graphs: GraphFiles, threads: int) -> None:
        """Raises BundleError for a program that ExecuTorch refuses, or without ExecuTorch; AsrError
        for a number of threads that another engine of this process has decided already."""
        if threads < 1:
            raise AsrError(f"{threads} threads; expected one or more")
        self._path = bundle.path / graphs.encoder
        self._runtime = _import_runtime(bundle)
        set_threads(self._runtime, threads)
        self._lock = threading.Lock()
        self._program = self._load_program(bundle, graphs.encoder)
        self._methods: dict[str, _Method] = {}
        self._check_metadata(bundle)
        self._factor = bundle.streaming.subsampling_factor
        self._initial_state = ExecutorchState.initial(
            bundle.streaming.left_context_frames,
            3 * bundle.model.encoder_layers * bundle.model.encoder_dim,
        )
        self._predict_one = lru_cache(maxsize=_PREDICTOR_CACHE)(self._predict_bytes)
        # Here, so that what can't be loaded is known now.
        for name in (
            "joiner",
            "predictor",
            encoder_method(_fitting(bundle.streaming.chunk_frames)),
        ):
            self._method(name)

    def initial_state(self) -> ExecutorchState:
        """See `Engine`."""
        return self._initial_state

    def encode(self, features: Floats, state: ExecutorchState) -> tuple[Floats, ExecutorchState]:
        """See `Engine`. A chunk of another size than `CHUNKS`, as the last of a stream is, goes
        padded through the next longer method, and gives what it gives without padding.

        Raises AsrError for a chunk that is longer than the longest.
        """
        frames = (len(features) - SUBSAMPLING_OVERLAP) // self._factor
        used = self._factor * frames + SUBSAMPLING_OVERLAP
        with self._lock:
            method = self._method(encoder_method(_fitting(frames)))
            x, past, counts = method.inputs
            x[0, :used], x[0, used:] = features[:used], 0
            np.concatenate(state.blocks, out=past)
            counts[:] = state.valid, frames
            method.run()
            out, rows = (each[0, :frames].copy() for each in method.outputs)
        return out, state.append(rows)

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        """See `Engine`. Contexts are remembered."""
        if len(contexts) == 1:
            return self._predict_one(contexts.tobytes())
        out: Floats = np.concatenate([self._predict_one(row.tobytes()) for row in contexts])
        out.flags.writeable = False
        return out

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        blocks = []
        with self._lock:
            method = self._method("joiner")
            frames, predicted = method.inputs
            for start in range(0, len(encoder_out), MAX_JOINED):
                block = encoder_out[start : start + MAX_JOINED]
                n = len(block)
                frames[:n] = block
                # One row is for all frames.
                one = len(predictor_out) == 1
                predicted[:n] = predictor_out if one else predictor_out[start : start + n]
                method.run(n)
                blocks.append(method.outputs[0][:n].copy())
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def release_memory(self) -> None:
        """See `Engine`. Each of the encoder's methods has packed the weights for itself."""
        self._predict_one.cache_clear()
        with self._lock:
            self._methods.clear()

    def _predict_bytes(self, context: bytes) -> Floats:
        """Predict for the bytes of one context: what an array can't be, the key of a cache."""
        with self._lock:
            method = self._method("predictor")
            method.inputs[0][:] = np.frombuffer(context, dtype=np.int64)
            method.run()
            out: Floats = method.outputs[0].copy()
        out.flags.writeable = False  # it stays in the cache
        return out

    def _method(self, name: str) -> "_Method":
        if name not in self._methods:
            try:
                loaded = self._program.load_method(name)
            except RuntimeError as error:
                raise BundleError(
                    f"{self._path}: ExecuTorch {_version()} can't load its {name!r}: {error}; "
                    "export the model again, or install the version that pyproject.toml names"
                ) from error
            self._methods[name] = _Method(self._path, name, loaded)
        return self._methods[name]

    def _load_program(self, bundle: Bundle, name: str) -> Any:
        path = bundle.file(name)
        # Without a path it is held here: the program reads its weights from it.
        self._content = b"" if path else bundle.read(name)
        if path:
            with path.open("rb") as file:
                head, size = file.read(64), os.fstat(file.fileno()).st_size
        else:
            head, size = self._content[:64], len(self._content)
        _check_header(str(self._path), head, size)
        whole = self._runtime.Verification.InternalConsistency
        try:
            if path:
                return self._runtime._load_program(str(path), program_verification=whole)
            return self._runtime._load_program_from_buffer(
                self._content, program_verification=whole
            )
        except RuntimeError as error:
            raise BundleError(
                f"{self._path}: ExecuTorch {_version()} can't load it: {error}; "
                "export the model again, or install the version that pyproject.toml names"
            ) from error

    def _check_metadata(self, bundle: Bundle) -> None:
        """Raise BundleError unless the program says of itself what `bundle.json` says of it."""
        model, streaming = bundle.model, bundle.streaming
        expected = {
            "program_version": PROGRAM_VERSION,
            "encoder_layers": model.encoder_layers,
            "encoder_dim": model.encoder_dim,
            "conv_kernel": model.conv_kernel,
            "joiner_dim": model.joiner_dim,
            "context_size": model.context_size,
            "vocab_size": model.vocab_size,
            "num_mel_bins": bundle.features.num_mel_bins,
            "left_context_frames": streaming.left_context_frames,
            "subsampling_factor": streaming.subsampling_factor,
        }
        there = {
            self._program.get_method_name(number) for number in range(self._program.num_methods())
        }
        for name, value in expected.items():
            found = self._program.load_method(name).call(())[0] if name in there else None
            if found != value:
                raise BundleError(
                    f"{self._path}: {name} is {found}, expected {value}; export the model again, "
                    "or install the version of earshot-asr that it was made with"
                )


class _Method:
    """A loaded method, with memory for its inputs and outputs that stays the same."""

    inputs: tuple[NDArray[Any], ...]  # write, then `run`, then read `outputs`
    outputs: tuple[Floats, ...]  # of the last run; the next one overwrites them

    def __init__(self, path: Path, name: str, loaded: Any) -> None:
        """Runs it once, with zeros. Raises BundleError as `run` does."""
        from torch import from_numpy  # loaded long ago, when the engine was opened

        self._path, self._name, self._loaded = path, name, loaded
        meta = loaded.method_meta()
        tensors = [meta.input_tensor_meta(number) for number in range(meta.num_inputs())]
        self.inputs = tuple(np.zeros(each.sizes(), _TYPES[each.dtype()]) for each in tensors)
        self._tensors = [from_numpy(array) for array in self.inputs]
        self._rows: int | None = None
        loaded.set_inputs(self._tensors)
        self.run()
        # They lie in the memory that was planned for the method, whatever it is given.
        self.outputs = tuple(each.numpy() for each in loaded.get_outputs(clone_outputs=False))

    def run(self, rows: int | None = None) -> None:
        """Compute the outputs, of the first rows of the inputs where their number is variable.

        Raises BundleError for what only shows when the program runs.
        """
        try:
            if rows != self._rows:
                self._loaded.set_inputs([tensor[:rows] for tensor in self._tensors])
                self._rows = rows
            self._loaded.execute()
        except RuntimeError as error:
            raise BundleError(
                f"{self._path}: ExecuTorch can't run {self._name}: {error}; export the model again"
            ) from error


def _fitting(frames: int) -> int:
    """Return the smallest chunk that holds so many frames."""
    for chunk in CHUNKS:
        if frames <= chunk:
            return chunk
    raise AsrError(
        f"a chunk of {frames * _FRAME_MS} ms; programs for ExecuTorch take at most "
        f"{CHUNKS[-1] * _FRAME_MS} ms; choose a smaller chunk or another engine"
    )


def _check_header(path: str, head: bytes, size: int) -> None:
    """Raise BundleError unless a file of `size` bytes that begins with `head` can be a program."""
    advice = "copy the bundle again, or export the model again"
    if len(head) < 64 or head[8:12] != b"eh00":
        raise BundleError(f"{path}: {size} bytes, not a whole ExecuTorch program; {advice}")
    _, identifier, _, length, program, segments = _HEADER.unpack_from(head)
    if identifier != _IDENTIFIER:
        raise BundleError(
            f"{path}: its schema is {identifier!r}, but ExecuTorch {_version()} reads "
            f"{_IDENTIFIER!r}; export the model again, or install the version it was made with"
        )
    segment_bytes = struct.unpack_from("<Q", head, _HEADER.size)[0] if length >= 32 else 0
    expected = max(program, segments + segment_bytes if segments else 0)
    if size < expected:
        raise BundleError(
            f"{path}: {size} bytes, but the program in it is {expected}: it was cut; {advice}"
        )


def _import_runtime(bundle: Bundle) -> ModuleType:
    """Return ExecuTorch's binding, which is built on torch.

    Not by `portable_lib`, which gives the same names: it imports the exporter, so that loading took
    5 s of CPU time and 200 MB more.
    """
    try:
        import torch  # noqa: F401 (it loads the libraries that the binding is linked to)
        from executorch.extension.pybindings import _portable_lib
    except ImportError as error:
        raise BundleError(
            f"{bundle.path}: its graphs are for ExecuTorch, which is not installed ({error}); "
            "pip install 'earshot-asr[executorch]', or use another engine"
        ) from error
    return _portable_lib


_pool_threads: int | None = None
_pool_lock = threading.Lock()


def set_threads(runtime: ModuleType, threads: int) -> None:
    """Size the thread pool of the process, before any method is loaded. Raises AsrError if it has
    another size already."""
    global _pool_threads
    with _pool_lock:
        if _pool_threads is None:
            with _silent():
                runtime._unsafe_reset_threadpool(threads)
            _pool_threads = threads
    if _pool_threads != threads:
        raise AsrError(
            f"{threads} threads, but an ExecuTorch engine of this process has {_pool_threads}, and "
            "all share them; use as many, or another process"
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep from the terminal what ExecuTorch tells of the processor while it counts its cores."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _version() -> str:
    from importlib.metadata import version

    return version("executorch")

"""The ExecuTorch engine, for programs in `.pte` whose arithmetic XNNPACK does.

Of all engines, the only one that imports torch, and only once a bundle asks for it: ExecuTorch's
Python binding is built on it. (Its C++ and Kotlin runtimes are not: a device needs 2 MB.)

What calls were found to depend on, with ExecuTorch 1.4 on x86:

- The thread pool is the process's own. It must have its size before the first method is loaded: a
  method keeps the pool that it was loaded with, and crashes when that was replaced.
- Inputs are read where they lie; outputs are copied out of the method's memory. So it gives only
  what is new of the encoder's past, which is kept so that appending to it seldom moves it.
- Loading believes every offset in a file, and crashes where one leads out of it. A bundle's
  checksums catch damage; `_check_header` catches what was damaged before they were taken.
"""

import os
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.bundle import Bundle, GraphFiles
from asr.engines import Floats
from asr.errors import AsrError, BundleError

PROGRAM_VERSION = 2
"""Of the methods and their shapes; `export.executorch.lowering` describes them."""

CHUNKS = (4, 8, 16)
"""Encoder frames of the chunks that a program has methods for."""

MAX_JOINED = 64
"""Rows of the longest call of the joiner."""

_FRAME_MS = 40
_ROOM = 64
"""Rows that can be appended before all are moved; not less than the longest of `CHUNKS`."""
_PREDICTOR_CACHE = 512
"""Contexts whose predictor output is kept, 1 kB each: the frequent word parts repeat them."""

_IDENTIFIER = b"ET12"
_HEADER = struct.Struct("<4s4s4sIQQ")
"""Offset of the root table, identifier, magic of the extended header, its length, size of the
program, offset of the segments; with a length of 32, the size of the segments follows."""


def encoder_method(chunk: int) -> str:
    """Return the name of the method for chunks of so many encoder frames."""
    return f"encoder_{chunk * _FRAME_MS}"


class _Memory:
    """Memory for the rows of a stream; those behind `used` are free."""

    def __init__(self, rows: Any, used: int) -> None:
        self.rows = rows
        self.used = used


@dataclass(frozen=True, slots=True)
class ExecutorchState:
    """The encoder's past: a row a frame, with what all layers keep of it.

    Rows are never changed: the next state sees the same memory some rows further on, as long as
    there is room and nobody else went on from this state; else they are copied, once in some calls.
    """

    rows: Any  # tensor (left, 3Ld): of each layer key, value and input of the convolution
    valid: int  # how many are of this stream: the newest ones
    _memory: _Memory
    _end: int  # of `rows` in it

    @classmethod
    def initial(cls, left: int, width: int) -> "ExecutorchState":
        """Return the state at the start of a stream, with room for `left` rows."""
        from torch import zeros  # loaded long ago, when the engine was opened

        rows = zeros(left, width)
        return cls(rows, 0, _Memory(rows, left), left)

    def counts(self, frames: int) -> Any:
        """Return the encoder's second input, for a chunk of so many real frames."""
        from torch import tensor

        return tensor([float(self.valid), float(frames)])

    def append(self, rows: Any) -> "ExecutorchState":
        """Return the state with new rows `(n, 3Ld)`, without the n oldest. One thread at a time."""
        left, memory, start = len(self.rows), self._memory, self._end
        end = start + len(rows)
        if memory.used != start or end > len(memory.rows):
            start, end = left, left + len(rows)
            memory = _Memory(rows.new_empty(left + _ROOM, rows.shape[1]), left)
            memory.rows[:left] = self.rows
        memory.rows[start:end] = rows
        memory.used = end
        valid = min(left, self.valid + len(rows))
        return ExecutorchState(memory.rows[end - left : end], valid, memory, end)


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
        self._torch, self._runtime = _import_runtime(bundle)
        set_threads(self._runtime, threads)
        self._torch.set_num_threads(threads)  # it appends the rows
        self._lock = threading.Lock()
        self._program = self._load_program(bundle, graphs.encoder)
        self._methods: dict[str, Any] = {}
        self._check_metadata(bundle)
        self._factor = bundle.streaming.subsampling_factor
        self._mel_bins = bundle.features.num_mel_bins
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
        frames = (len(features) - 3) // self._factor
        chunk = _fitting(frames)
        x = features[: self._factor * frames + 3]
        if frames < chunk:
            x = np.zeros((self._factor * chunk + 3, self._mel_bins), dtype=np.float32)
            x[: len(features)] = features
        out, rows = self._run(
            encoder_method(chunk), self._tensor(x[None]), state.rows, state.counts(frames)
        )
        with self._lock:
            following = state.append(rows[0, :frames])
        return out[0, :frames].numpy(), following

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        """See `Engine`. Contexts are remembered."""
        if len(contexts) == 1:
            return self._predict_one(contexts.tobytes())
        out: Floats = np.concatenate([self._predict_one(row.tobytes()) for row in contexts])
        out.flags.writeable = False
        return out

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        if len(predictor_out) == 1:
            predictor_out = np.repeat(predictor_out, len(encoder_out), axis=0)
        blocks = [
            self._run(
                "joiner",
                self._tensor(encoder_out[start : start + MAX_JOINED]),
                self._tensor(predictor_out[start : start + MAX_JOINED]),
            )[0].numpy()
            for start in range(0, len(encoder_out), MAX_JOINED)
        ]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def release_memory(self) -> None:
        """See `Engine`. Each of the encoder's methods has packed the weights for itself."""
        self._predict_one.cache_clear()
        with self._lock:
            self._methods.clear()

    def _predict_bytes(self, context: bytes) -> Floats:
        """Predict for the bytes of one context: what an array can't be, the key of a cache."""
        row = np.frombuffer(context, dtype=np.int64)[None]
        out: Floats = self._run("predictor", self._tensor(row))[0].numpy()
        out.flags.writeable = False  # it stays in the cache
        return out

    def _tensor(self, array: np.ndarray) -> Any:
        """Return a tensor in the memory of an array; read-only ones, which torch has not, are
        copied."""
        return self._torch.from_numpy(np.require(array, requirements=["C", "W"]))

    def _run(self, name: str, *inputs: Any) -> Sequence[Any]:
        """Raises BundleError for what only shows when the program runs."""
        with self._lock:
            method = self._method(name)
            try:
                outputs: Sequence[Any] = method.call(inputs)
            except RuntimeError as error:
                raise BundleError(
                    f"{self._path}: ExecuTorch can't run {name}: {error}; export the model again"
                ) from error
        return outputs

    def _method(self, name: str) -> Any:
        if name not in self._methods:
            try:
                self._methods[name] = self._program.load_method(name)
            except RuntimeError as error:
                raise BundleError(
                    f"{self._path}: ExecuTorch {_version()} can't load its {name!r}: {error}; "
                    "export the model again, or install the version that pyproject.toml names"
                ) from error
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


def _import_runtime(bundle: Bundle) -> tuple[ModuleType, ModuleType]:
    """Return torch and ExecuTorch's binding."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its interface is experimental
            import torch
            from executorch.extension.pybindings import portable_lib
    except ImportError as error:
        raise BundleError(
            f"{bundle.path}: its graphs are for ExecuTorch, which is not installed ({error}); "
            "pip install 'earshot-asr[executorch]', or use another engine"
        ) from error
    return torch, portable_lib


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

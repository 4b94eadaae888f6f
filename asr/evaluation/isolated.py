"""A recogniser in a process of its own: what it holds, needs and costs is its own.

The process is `python -m asr.evaluation.isolated MODULE OPTIONS`. It imports MODULE, calls its
`load(**OPTIONS)`, and from then on recognises the recordings that it is told of: each is read and
resampled before the clock starts, then given block by block. Requests and answers are JSON, a line
each. All recognisers are measured by this one piece of code, so that they can be compared.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self, TextIO

import numpy as np

from asr.audio import read_blocks, resample_blocks
from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Segment, Utterance
from asr.evaluation.corpora.recordings import read_segment
from asr.evaluation.meters import peak_rss_mb
from asr.features import SAMPLE_RATE, Samples
from asr.memory import resident_mb

# Math libraries start a thread for each CPU unless they are told before they are loaded. Inference
# engines have options of their own.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class FinalText(Protocol):
    """What a finished stream gives; `asr.results.Final` is one."""

    @property
    def text(self) -> str: ...


class HeardStream(Protocol):
    """One recording, as it is heard; `asr.stream.Stream` is one."""

    def accept(self, samples: Samples) -> object:
        """Take the next samples `(n,)` at 16 kHz, and recognise all that can be with them."""
        ...

    def finish(self) -> FinalText:
        """Return the text, once no more samples follow."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """The text of a recogniser that gives nothing else."""

    text: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recogniser that is ready, as `load` of a module returns it."""

    open: Callable[[], HeardStream]
    runs_on: str  # the software below it, and its version
    model: str  # what it recognises with, in words
    model_mb: float | None = None  # of its files; None: not known


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """What loading came to."""

    runs_on: str
    model: str
    model_mb: float | None  # as `Loaded` has it
    load_s: float  # from importing its module until it could take audio
    base_rss_mb: float  # of the process before: Python, numpy, and what reads audio
    load_rss_mb: float  # and after


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a recording came to."""

    text: str
    audio_s: float
    block_s: tuple[float, ...]  # wall time of each block
    finish_s: float  # and of the end
    blocks_cpu_s: float  # CPU time of the blocks, of all threads of the process
    peak_rss_mb: float  # of the process so far

    @property
    def compute_s(self) -> float:
        """Wall time of all."""
        return sum(self.block_s) + self.finish_s


class NotInstalled(AsrError):
    """A recogniser whose package is not there."""


class AudioUnreadable(AsrError):
    """A recording that can't be read, by whichever recogniser."""


class ProcessEnded(AsrError):
    """The process of a recogniser is gone, and not because it was told to."""


class RecognizerProcess(Protocol):
    """What a measurement needs of a process; `Isolated` is one."""

    def load(self) -> LoadFacts: ...

    def recognize(self, utterance: Utterance, block_ms: int) -> Recognition: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


_ERRORS = {"not installed": NotInstalled, "unreadable": AudioUnreadable, "refused": AsrError}


class Isolated:
    """A process with a recogniser. Leaving the `with` block ends it."""

    def __init__(self, module: str, options: Mapping[str, Any]) -> None:
        """Start the process. `module` has `load(**options) -> Loaded`; it is named, so that nothing
        of it is imported here."""
        self._name = module
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "asr.evaluation.isolated", module, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | _ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the process that waits
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load(self) -> LoadFacts:
        """Wait until it has loaded. Raises NotInstalled, or AsrError for what else went wrong."""
        return LoadFacts(**self._answer())

    def recognize(self, utterance: Utterance, block_ms: int) -> Recognition:
        """Recognise a recording, `block_ms` at a time. Raises AudioUnreadable, or AsrError for what
        the recogniser refuses; the process goes on, unless it is ProcessEnded."""
        segment = utterance.segment
        request = {
            "audio": os.fspath(utterance.audio),
            "segment": asdict(segment) if segment else None,
            "block_ms": block_ms,
        }
        try:
            assert self._process.stdin is not None
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except OSError:  # it has ended: `_answer` says how
            pass
        answer = self._answer()
        return Recognition(**answer | {"block_s": tuple(answer["block_s"])})

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise ProcessEnded(f"{self._name} ended without an answer: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ERRORS[answer["kind"]](answer["error"])
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def serve(
    load: Callable[[], Loaded],
    requests: TextIO,
    answers: TextIO,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Load a recogniser and answer requests until they end: what the process does."""

    def answer(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    base_mb, started = resident_mb(), clock()
    try:
        loaded = load()
    except (AsrError, ModuleNotFoundError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        answer({"error": str(error), "kind": "not installed" if missing else "refused"})
        return
    facts = LoadFacts(
        loaded.runs_on,
        loaded.model,
        loaded.model_mb,
        clock() - started,
        base_mb,
        resident_mb(),
    )
    answer(asdict(facts))
    for line in requests:
        request = json.loads(line)
        try:
            samples = _read(Path(request["audio"]), request["segment"])
        except AsrError as error:
            answer({"error": str(error), "kind": "unreadable"})
            continue
        try:
            answer(asdict(_recognize(loaded.open(), samples, request["block_ms"], clock)))
        except AsrError as error:
            answer({"error": str(error), "kind": "refused"})


def _recognize(
    stream: HeardStream, samples: Samples, block_ms: int, clock: Callable[[], float]
) -> Recognition:
    size = SAMPLE_RATE * block_ms // 1000
    block_s = []
    cpu_started = time.process_time()
    for start in range(0, len(samples), size):
        started = clock()
        stream.accept(samples[start : start + size])
        block_s.append(clock() - started)
    cpu_s = time.process_time() - cpu_started
    started = clock()
    text = stream.finish().text
    finish_s = clock() - started
    audio_s = len(samples) / SAMPLE_RATE
    return Recognition(text, audio_s, tuple(block_s), finish_s, cpu_s, peak_rss_mb())


def _read(path: Path, segment: dict[str, Any] | None) -> Samples:
    """Return a whole recording, or a segment of one, at 16 kHz."""
    blocks = read_segment(path, Segment(**segment)) if segment else read_blocks(path)
    return np.concatenate(list(resample_blocks(blocks)))


def _main() -> None:
    module, options = sys.argv[1], json.loads(sys.argv[2])
    # Libraries may print: what they print to stdout goes to stderr, away from the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(lambda: import_module(module).load(**options), sys.stdin, answers)


if __name__ == "__main__":
    _main()

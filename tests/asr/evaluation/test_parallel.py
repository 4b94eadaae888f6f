"""Protects that several processes give the results of one, and that little is lost if one dies."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asr.errors import AsrError, BundleError
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.parallel import LoadOptions, recognize_in_processes
from asr.evaluation.recognition import Recognized, recognize
from asr.recognizer import load


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """However it ends."""
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def utterances(write_speech: Callable[..., Path]) -> list[Utterance]:
    """Five recordings of different lengths; the third is damaged."""
    paths = [write_speech(f"{number}.wav", 0.5 + 0.2 * number) for number in range(5)]
    paths[2].write_bytes(paths[2].read_bytes()[:4000])
    return [Utterance(path.stem, path, "so me word", None, None, None) for path in paths]


def options(bundle: Path) -> LoadOptions:
    return LoadOptions(bundle, "int8", None, 320)


def test_hypotheses_are_those_of_one_job(tiny_bundle: Path, utterances: list[Utterance]) -> None:
    numbered = list(enumerate(utterances))
    found = dict(recognize_in_processes(options(tiny_bundle), numbered, jobs=2))
    assert sorted(found) == list(range(5))
    recognizer = load(tiny_bundle, chunk_ms=320)
    for position, outcome in found.items():
        if position == 2:
            assert isinstance(outcome, Skipped)
            assert (outcome.id, "truncated" in outcome.reason) == ("2", True)
            continue
        expected = recognize(recognizer, utterances[position])
        assert isinstance(outcome, Recognized)
        assert expected.words
        assert (outcome.text, outcome.words, outcome.audio_s) == (
            expected.text,
            expected.words,
            expected.audio_s,
        )
        assert outcome.compute_s > 0
        assert outcome.peak_rss_mb > 10


def test_a_killed_process_costs_its_utterance(
    tiny_bundle: Path, utterances: list[Utterance], tmp_path: Path
) -> None:
    """A pipe that nobody writes to holds the only process up, until it is killed."""
    os.mkfifo(tmp_path / "pipe")
    stuck = Utterance("stuck", tmp_path / "pipe", "word", None, None, None)
    numbered = [(0, utterances[0]), (1, stuck), (2, utterances[1])]
    outcomes = recognize_in_processes(options(tiny_bundle), numbered, jobs=1)
    assert next(outcomes)[0] == 0
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    watcher = threading.Thread(target=_kill_when_it_reads, args=(child.pid, tmp_path / "pipe"))
    watcher.start()
    found = dict(outcomes)
    watcher.join()
    assert found[1] == Skipped("stuck", "its process died: killed by SIGKILL")
    assert isinstance(found[2], Recognized), "another process goes on"


def _kill_when_it_reads(pid: int, pipe: Path) -> None:
    with pipe.open("wb"):  # returns when the other end is open
        os.kill(pid, signal.SIGKILL)


def test_an_end_in_between_ends_the_processes(
    tiny_bundle: Path, utterances: list[Utterance]
) -> None:
    outcomes = recognize_in_processes(options(tiny_bundle), list(enumerate(utterances)), jobs=2)
    next(outcomes)
    outcomes.close()


def test_a_model_that_cannot_be_loaded_is_an_error(
    tmp_path: Path, utterances: list[Utterance]
) -> None:
    with pytest.raises(BundleError, match="bundle"):
        list(recognize_in_processes(options(tmp_path), [(0, utterances[0])], jobs=2))


def test_a_defect_is_not_taken_for_a_broken_recording(
    tiny_bundle: Path, utterances: list[Utterance]
) -> None:
    defect = Utterance("x", None, "word", None, None, None)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a job ended at x: exit code 1"):
        list(recognize_in_processes(options(tiny_bundle), [(0, defect)], jobs=1))


def test_nothing_to_do(tiny_bundle: Path) -> None:
    assert list(recognize_in_processes(options(tiny_bundle), [], jobs=2)) == []


def test_a_process_that_dies_while_it_loads_is_an_error(
    tiny_bundle: Path, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.evaluation.parallel._work", _die)
    with pytest.raises(AsrError, match="could not load the model: killed by SIGKILL; try fewer"):
        list(recognize_in_processes(options(tiny_bundle), [(0, utterances[0])], jobs=1))


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

"""Protects what was measured from a kill, and from being mixed with that of another command."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Segment, Skipped, Utterance
from asr.evaluation.partial import PartialResults, measured_with, partial_path
from asr.evaluation.recognition import Recognized
from asr.results import Word
from tests.asr.evaluated import ENVELOPE

RUN: dict[str, str | int] = {"model": "ab", "chunk_ms": 320}
ONE = Recognized("Hello\u2028there", (Word("Hello", 0.04, 0.2, 0.5),), 1.5, 0.1, 80.0)
TWO = replace(ONE, text="", words=())


def keep(path: Path, **outcomes: Recognized | Skipped) -> None:
    partial = PartialResults(path, RUN)
    for name, outcome in outcomes.items():
        partial.add(name, outcome)
    partial.close()


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    path = partial_path(tmp_path / "out.json")
    assert path == tmp_path / "out.json.partial"
    keep(path, one=ONE, broken=Skipped("broken", "truncated"))
    keep(path, two=TWO)
    partial = PartialResults(path, RUN)
    assert partial.recognized == {"one": ONE, "two": TWO}, "what failed is tried again"
    partial.remove()
    assert list(tmp_path.iterdir()) == []


def test_nothing_measured_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    keep(path, broken=Skipped("broken", "truncated"))
    assert not path.exists()
    PartialResults(path, RUN).remove()


def test_a_kill_at_any_byte_costs_one_utterance(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    keep(path, one=ONE, two=TWO)
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in [0, 1, *range(ends[0] - 1, len(content), 17)]:
        path.write_bytes(content[:length])
        survived = sum(end <= length for end in ends[1:])
        assert list(PartialResults(path, RUN).recognized) == ["one", "two"][:survived]
        keep(path, two=TWO)
        found = PartialResults(path, RUN).recognized
        assert found == ({"one": ONE} if survived else {}) | {"two": TWO}


def test_another_command_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    keep(path, one=ONE)
    with pytest.raises(AsrError, match="chunk_ms 320 there, 640 here; delete it to measure anew"):
        PartialResults(path, RUN | {"chunk_ms": 640})
    for damage in ("no JSON\n", '{"id": "x"}\n', "[]\n"):
        broken = tmp_path / "broken"
        broken.write_bytes(path.read_bytes() + damage.encode())
        with pytest.raises(AsrError, match=r"damaged .* delete it to measure anew"):
            PartialResults(broken, RUN)


def test_the_model_how_it_runs_and_the_utterances_make_a_command() -> None:
    utterance = Utterance("a", Path("a.wav"), "hello", 1.0, None, None)
    same = measured_with(ENVELOPE, [utterance])
    assert measured_with(replace(ENVELOPE, command="other", jobs=7), [utterance]) == same
    others = [
        measured_with(replace(ENVELOPE, precision="fp32"), [utterance]),
        measured_with(replace(ENVELOPE, chunk_ms=640), [utterance]),
        measured_with(replace(ENVELOPE, model=replace(ENVELOPE.model, sha256="x")), [utterance]),
        measured_with(ENVELOPE, [replace(utterance, text="other")]),
        measured_with(ENVELOPE, [replace(utterance, audio=Path("b.wav"))]),
        measured_with(ENVELOPE, [replace(utterance, segment=Segment(0, 1))]),
        measured_with(ENVELOPE, [utterance, replace(utterance, id="b")]),
    ]
    assert same not in others

"""Peers are measured alike, on the same recordings, and one that fails costs the others nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.isolated import LoadFacts, NotInstalled, ProcessEnded, Recognition
from asr.evaluation.peers.comparison import LOADS, Comparison, Peer, Ratio, compare

UTTERANCES = [
    Utterance(str(number), Path(f"{number}.wav"), "So say we all.", 2.0, None, None)
    for number in range(3)
]
PEERS = [Peer(name, "", {}) for name in ("ours", "theirs", "third")]


class FakePeer:
    """Needs `block_s` for each of two blocks of a recording; notes what it was asked."""

    def __init__(self, name: str, log: list[tuple[str, str]], block_s: float, text: str) -> None:
        self.name, self.log, self.block_s, self.text = name, log, block_s, text
        self.cannot_load: AsrError | None = None
        self.cannot_read: dict[str, AsrError] = {}
        self.loads = 0

    def load(self) -> LoadFacts:
        if self.cannot_load:
            raise self.cannot_load
        self.loads += 1
        return LoadFacts("runtime", "model", 5.0, float(self.loads), 30.0, 60.0)

    def recognize(self, utterance: Utterance, block_ms: int) -> Recognition:
        name = utterance.id
        self.log.append((self.name, name))
        if name in self.cannot_read:
            raise self.cannot_read[name]
        return Recognition(
            self.text, 2.0, (self.block_s,) * 2, 0.01, 50 * self.block_s**2, 70.0 + int(name)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.log.append((self.name, "closed"))


@pytest.fixture
def log() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def fakes(log: list[tuple[str, str]]) -> dict[str, FakePeer]:
    texts = {"ours": "so say we all", "theirs": "So, say we hall!", "third": ""}
    seconds = {"ours": 0.02, "theirs": 0.04, "third": 0.01}
    return {name: FakePeer(name, log, seconds[name], texts[name]) for name in texts}


def run(fakes: dict[str, FakePeer], peers: Sequence[Peer] = PEERS, **options: object) -> Comparison:
    return compare(peers, UTTERANCES, start=lambda peer: fakes[peer.name], **options)


def test_they_take_turns_at_each_recording(
    fakes: dict[str, FakePeer], log: list[tuple[str, str]]
) -> None:
    """In an order that moves on; the first recording comes twice, to warm them up."""
    run(fakes)
    heard = [entry for entry in log if entry[1] != "closed"]
    assert heard[:6] == [(peer.name, "0") for peer in PEERS for _ in range(2)]
    assert [name for name, _ in heard[6:]] == ["theirs", "third", "ours", "third", "ours", "theirs"]
    assert log[-3:] == [("third", "closed"), ("theirs", "closed"), ("ours", "closed")]
    assert all(fake.loads == LOADS for fake in fakes.values())


def test_figures(fakes: dict[str, FakePeer]) -> None:
    result = run(fakes, skipped=[Skipped("row 9", "no words")])
    ours, theirs, third = [report.to_dict() for report in result.reports]
    assert (ours["wer"], theirs["wer"], third["wer"]) == (0, 0.25, 1)
    assert (theirs["ins"], theirs["del"], theirs["sub"]) == (0, 0, 3)
    assert ours["rtf"] == pytest.approx(0.05 / 2)
    assert ours["blocks_cpu_rtf"] == pytest.approx(0.02 / 2)
    assert ours["block_ms_p50"] == pytest.approx(20)
    assert ours["block_ms_p99"] == pytest.approx(20)
    assert ours["load_s"] == 2
    assert ours["load_s_spread"] == [1, 3]
    assert (ours["base_rss_mb"], ours["load_rss_mb"], ours["peak_rss_mb"]) == (30, 60, 72)
    assert [row["id"] for row in ours["rows"]] == ["0", "1", "2"]
    ratios = result.time_ratios()
    assert {name: ratio.wall.median for name, ratio in ratios.items()} == {
        "theirs": pytest.approx(0.5),
        "third": pytest.approx(2),
    }
    assert ratios["third"].cpu.median == pytest.approx(4), "by CPU time, which is another"
    assert result.skipped == (Skipped("row 9", "no words"),)
    assert result.complete


def test_what_one_cannot_read_is_left_out_for_all(fakes: dict[str, FakePeer]) -> None:
    fakes["theirs"].cannot_read["1"] = AsrError("damaged")
    result = run(fakes)
    assert all([s.id for s in report.scores] == ["0", "2"] for report in result.reports)
    assert result.skipped == (Skipped("1", "theirs: damaged"),)


def test_one_that_cannot_take_part_has_a_reason(fakes: dict[str, FakePeer]) -> None:
    fakes["theirs"].cannot_load = NotInstalled("No module named 'theirs'")
    fakes["third"].cannot_read["1"] = ProcessEnded("third ended without an answer")
    absent = Peer("absent", "", {}, unavailable="no weights")
    result = run(fakes, [*PEERS, absent])
    assert [report.reason for report in result.reports] == [
        None,
        "No module named 'theirs'",
        "third ended without an answer",
        "no weights",
    ]
    assert len(result.reports[0].scores) == 3
    assert result.skipped == ()
    assert "wer" not in result.reports[1].to_dict()
    assert result.time_ratios() == {}


def test_there_is_no_comparison_without_the_first(fakes: dict[str, FakePeer]) -> None:
    fakes["ours"].cannot_read["1"] = ProcessEnded("gone")
    with pytest.raises(AsrError, match="ours: gone"):
        run(fakes)
    fakes["ours"].cannot_load = AsrError("no bundle")
    with pytest.raises(AsrError, match="ours: no bundle"):
        run(fakes)


def test_nothing_that_all_could_read_is_an_error(fakes: dict[str, FakePeer]) -> None:
    fakes["third"].cannot_read = {str(number): AsrError("damaged") for number in range(3)}
    with pytest.raises(AsrError, match="3 skipped; the first: 0: third: damaged"):
        run(fakes)


def test_it_can_be_ended_early(fakes: dict[str, FakePeer]) -> None:
    answers = iter([False, True])
    result = run(fakes, stopped=lambda: next(answers))
    assert not result.complete
    assert [score.id for score in result.reports[0].scores] == ["0"]


def test_a_ratio_is_as_sure_as_its_recordings_agree() -> None:
    agreed, scattered = Ratio.of([0.5] * 9), Ratio.of([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 2.0])
    assert agreed == Ratio(0.5, (0.5, 0.5))
    assert scattered.median == 0.5
    assert 0.2 <= scattered.ci95[0] < 0.5 < scattered.ci95[1] <= 2.0

"""Protects the verdict on two models: real differences are told, chance is not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.errors import AsrError
from asr.evaluation.accuracy.comparison import (
    Comparison,
    OtherReport,
    OtherRow,
    compare,
    read_other_report,
)
from asr.evaluation.accuracy.scoring import UtteranceScore
from tests.asr.evaluated import scored

WORDS = 10


def scores_with(errors: Sequence[int]) -> list[UtteranceScore]:
    """Utterances of ten words, with so many of them deleted."""
    return [
        scored(f"u{number}", "a " * WORDS, "a " * (WORDS - count))
        for number, count in enumerate(errors)
    ]


def report_with(errors: Sequence[int]) -> OtherReport:
    reference = " ".join("a" * WORDS)
    rows = {f"u{number}": OtherRow(reference, count) for number, count in enumerate(errors)}
    return OtherReport("other.json", rows)


def between(here: Sequence[int], there: Sequence[int]) -> Comparison:
    return compare(scores_with(here), report_with(there))


def test_a_small_steady_difference_is_real_where_the_intervals_overlap() -> None:
    """Half of the utterances have one error less; how hard they are differs far more."""
    there = [1 + (7 * number) % 9 for number in range(200)]
    here = [count - number % 2 for number, count in enumerate(there)]
    result = between(here, there)
    assert result.difference == pytest.approx(-0.05)
    # Of a binomial: 1.96 standard errors of the mean of 200 draws of 0 or 1, per ten words.
    half_width = 1.96 * np.sqrt(0.25 / 200) / WORDS
    assert result.ci95 == pytest.approx((-0.05 - half_width, -0.05 + half_width), abs=0.001)
    assert result.is_real
    assert result.p_value < 0.001
    assert str(result).startswith("It is better here: WER ")
    assert str(between(there, here)).startswith("It is worse here: ")
    assert between(there, here).difference == pytest.approx(0.05)


def test_as_many_errors_elsewhere_are_no_difference() -> None:
    generator = np.random.default_rng(0)
    here, there = generator.integers(0, 5, (2, 100))
    result = between(list(here), list(there))
    assert not result.is_real
    assert result.ci95[0] < 0 < result.ci95[1]
    assert str(result).startswith("No difference can be told: ")
    same = between([1, 2, 3], [1, 2, 3])
    assert (same.difference, same.ci95, same.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_chance_is_called_real_one_time_in_twenty() -> None:
    """Of 200 comparisons of equals: a binomial of 0.05 gives 3 to 19 in all but 1 of 1000."""
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(200):
        here, there = generator.binomial(WORDS, 0.3, (2, 60)).tolist()
        found += compare(scores_with(here), report_with(there), draws=500).is_real
    assert 3 <= found <= 19


def test_only_common_utterances_count_and_the_others_are_counted() -> None:
    result = compare(scores_with([1, 2, 9]), report_with([1, 1]))
    assert (result.utterances, result.only_here, result.only_there) == (2, 1, 0)
    assert (result.wer, result.other_wer) == pytest.approx((0.15, 0.1))
    result = compare(scores_with([1, 2]), report_with([1, 1, 4]))
    assert (result.only_here, result.only_there) == (0, 1)
    assert result == compare(scores_with([1, 2]), report_with([1, 1, 4])), "it repeats"


def test_other_references_are_refused() -> None:
    utterances = [score.utterance for score in scores_with([0])]
    report_with([3]).check(utterances)
    with pytest.raises(AsrError, match="u0 has the reference 'b', here it is 'a a a"):
        OtherReport("other.json", {"u0": OtherRow("b", 0)}).check(utterances)
    with pytest.raises(AsrError, match="it has none of the utterances"):
        OtherReport("other.json", {"x": OtherRow("a", 0)}).check(utterances)
    with pytest.raises(AsrError, match="none of the utterances that could be scored"):
        compare(scores_with([0]), OtherReport("other.json", {"x": OtherRow("a", 0)}))


@pytest.mark.parametrize(
    "content", [None, "{", [], {"rows": 3}, {"rows": [{"id": "a", "reference": "b", "ins": 0}]}]
)
def test_files_that_are_no_reports(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(AsrError, match=r"can't read the report|expected a report of `asr eval"):
        read_other_report(path)

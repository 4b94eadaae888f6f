"""Whether one model is better than another: both on the same utterances, by a paired bootstrap.

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (ICASSP
2004), section 5. Utterances are drawn with their errors of both sides, so what makes an utterance
hard for both cancels out, and much smaller differences can be told than two intervals show.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import AsrError
from asr.evaluation.accuracy.scoring import UtteranceScore
from asr.evaluation.corpora.manifest import Utterance
from asr.text import normalize

DRAWS = 10_000
SIGNIFICANT = 0.05

_KEYS = {"id": str, "reference": str, "ins": int, "del": int, "sub": int}


@dataclass(frozen=True, slots=True)
class OtherRow:
    """An utterance in another report."""

    reference: str  # normalised
    errors: int


@dataclass(frozen=True, slots=True)
class OtherReport:
    """What a comparison needs of another report."""

    path: str
    rows: Mapping[str, OtherRow]  # by id

    @classmethod
    def of(cls, name: str, scores: Iterable[UtteranceScore]) -> "OtherReport":
        """Return what a comparison with these scores needs."""
        rows = {score.id: OtherRow(score.reference, score.errors.errors) for score in scores}
        return cls(name, rows)

    def check(self, utterances: Iterable[Utterance]) -> None:
        """Raise AsrError unless some of these are in it, all of those with the same words."""
        common = 0
        for utterance in utterances:
            row = self.rows.get(utterance.id)
            if row is None:
                continue
            common += 1
            reference = normalize(utterance.text)
            if row.reference != reference:
                raise AsrError(
                    f"{self.path}: {utterance.id} has the reference {row.reference!r}, here it is "
                    f"{reference!r}; only results on the same references can be compared: evaluate "
                    "that model again"
                )
        if not common:
            raise AsrError(
                f"{self.path}: it has none of the utterances that are evaluated here; compare "
                "reports of the same recordings"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The word error rate here less that of another report, over the utterances in both."""

    other: str  # the file
    utterances: int  # in both
    only_here: int
    only_there: int
    wer: float
    other_wer: float
    difference: float  # of these two; below zero: better here
    ci95: tuple[float, float]  # of the difference
    p_value: float  # two-sided: of a difference at least as large where there is none

    @property
    def is_real(self) -> bool:
        """Whether chance alone would give such a difference in less than 1 of 20 such sets."""
        return self.p_value < SIGNIFICANT

    def __str__(self) -> str:
        """One sentence for people."""
        low, high = (f"{100 * end:+.2f}" for end in self.ci95)
        found = (
            f"WER {self.wer:.2%} here, {self.other_wer:.2%} in {self.other}, on the same "
            f"{self.utterances} utterances: {100 * self.difference:+.2f} points ({low} to {high}, "
            f"p = {self.p_value:.2g})"
        )
        if not self.is_real:
            return f"No difference can be told: {found}."
        return f"It is {'better' if self.difference < 0 else 'worse'} here: {found}."

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "ci95": list(self.ci95), "is_real": self.is_real}


def read_other_report(path: Path) -> OtherReport:
    """Read what `asr eval --report` wrote. Raises AsrError for anything else."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AsrError(f"can't read the report {path}: {error}") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise AsrError(f"{path}: expected a report of `asr eval --report`, with a row an utterance")
    return OtherReport(
        str(path),
        {
            row["id"]: OtherRow(row["reference"], row["ins"] + row["del"] + row["sub"])
            for row in rows
        },
    )


def compare(
    scores: Sequence[UtteranceScore], other: OtherReport, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare scores with another report, which `check` has been asked about.

    The interval is that of the percentiles of `draws` drawn corpora. The p-value is twice the share
    of them on whose side of zero the difference isn't. The same seed gives the same figures.

    Raises AsrError if no utterance is in both.
    """
    common = [score for score in scores if score.id in other.rows]
    if not common:
        raise AsrError(f"{other.path}: none of the utterances that could be scored is in it")
    here = np.array([score.errors.errors for score in common])
    there = np.array([other.rows[score.id].errors for score in common])
    words = np.array([score.errors.words for score in common])
    more_here = here - there
    generator = np.random.default_rng(seed)
    differences = np.empty(draws)
    for index in range(draws):  # one draw at a time: memory stays that of one corpus
        drawn = generator.integers(len(words), size=len(words))
        differences[index] = more_here[drawn].sum() / words[drawn].sum()
    low, high = np.quantile(differences, [0.025, 0.975])
    # One more of each: a share of a finite number of draws can't be zero.
    tail = 1 + min((differences <= 0).sum(), (differences >= 0).sum())
    return Comparison(
        other=other.path,
        utterances=len(common),
        only_here=len(scores) - len(common),
        only_there=len(other.rows) - len(common),
        wer=float(here.sum() / words.sum()),
        other_wer=float(there.sum() / words.sum()),
        difference=float(more_here.sum() / words.sum()),
        ci95=(float(low), float(high)),
        p_value=min(1.0, float(2 * tail / (draws + 1))),
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(row.get(key), kind) for key, kind in _KEYS.items()
    )

"""A stream may go to any operating point at any chunk boundary of a real recording.

That every frame is encoded and searched once, whatever the chunks, is proved to the bit with fake
engines in test_stream.py and test_supervisor.py. Here the built-in model shows what it makes of it.
It hears some words otherwise in other chunks, so a switched stream is held against two others: one
that stays at the first point, and one that is at the second from its beginning, with chunks that
end where those of the switched stream do. With two passes no word changes: test_windows.py.
"""

from collections.abc import Callable
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
import pytest

import asr
from asr.budget import CHUNKS_MS
from asr.bundle import builtin_bundle_path, open_bundle
from asr.engines import open_engine
from tests.samples import SAMPLES, Sample, read_samples
from tests.watched_engines import RememberingEngine

POINTS = tuple(ms // 40 for ms in CHUNKS_MS)  # encoder frames
MOVES = [
    (here, there)
    for number, here in enumerate(POINTS)
    for there in (*POINTS[number + 1 :], *POINTS[max(0, number - 1) : number])
]
"""Those that a governor makes: to any point below, or one up."""

STRANGE = 0.05
"""Of the switches, at most, may give a text that is further from both other streams than these are
from each other, and then by one word: with the built-in model of 328 hours 3 of 876 do. If a switch
lost the encoder's state, it would be 221."""


class Speech:
    """A recording and the streams through which it went."""

    def __init__(self, sample: Sample) -> None:
        self.samples = read_samples(sample)
        self.frames = (round(len(self.samples) / 160) + 19 - 3) // 4
        bundle = open_bundle(builtin_bundle_path())
        self._engine = RememberingEngine(open_engine(bundle))
        self._recognizer = asr.Recognizer(
            bundle, self._engine, bundle.graphs("int8"), search="beam"
        )

    def in_chunks(self, size_at: Callable[[int], int]) -> asr.Result:
        """Recognise it in chunks of `size_at(frames before the chunk)`."""
        stream = self._recognizer.stream()
        stream.push(self.samples)
        stream.end()
        frames = 0
        stream.chunk_frames = size_at(0)
        while (window := stream.next_window()) is not None:
            encoder_out, state = self._engine.encode(window, stream.encoder_state)
            stream.advance(encoder_out, state)
            frames += len(encoder_out)
            stream.chunk_frames = size_at(frames)
        assert frames == self.frames, "a frame was lost or searched twice"
        return stream.finish().result


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(sample, id=sample.name, marks=[pytest.mark.slow] if slow else [])
        for sample in SAMPLES
        for slow in [sample.name != "caravan"]  # the shortest
    ],
)
def test_a_switch_at_any_boundary_loses_and_repeats_no_word(sample: Sample) -> None:
    speech = Speech(sample)
    staying = {point: speech.in_chunks(lambda _, size=point: size) for point in POINTS}
    expected: dict[tuple[int, int], asr.Result] = {}
    strange, switches = [], 0
    for here, there in MOVES:
        counts = []
        for boundary in range(here, speech.frames, here):
            where = f"{40 * here} -> {40 * there} ms after {boundary / 25:.2f} s"
            result = speech.in_chunks(
                lambda frames, at=boundary, one=here, two=there: one if frames < at else two
            )
            before = [token for token in staying[here].tokens if token.time_s < boundary / 25]
            assert list(result.tokens[: len(before)]) == before, where
            times_s = [token.time_s for token in result.tokens]
            assert all(one < other for one, other in pairwise(times_s)), where
            first = boundary % there or there
            if (there, first) not in expected:
                expected[there, first] = speech.in_chunks(
                    lambda frames, one=first, two=there: two if frames else one
                )
            target = expected[there, first]
            apart = words_changed(staying[here], target)
            changed = [words_changed(staying[here], result), words_changed(target, result)]
            words = [len(other.words) for other in (staying[here], target)]
            lost_or_repeated = min(abs(len(result.words) - count) for count in words)
            assert lost_or_repeated <= 1, f"{where}: {result.text}"
            assert min(changed) <= apart + 2, f"{where}: {result.text}"
            if min(changed) > apart:
                strange.append(f"{where}: {result.text}")
            switches += 1
            counts.append([len(r.words) for r in (result, staying[here], target)])
        switched, first_point, second_point = np.mean(counts, axis=0)
        assert min(first_point, second_point) - 1 <= switched <= max(first_point, second_point) + 1
    assert switches >= 100
    assert len(strange) <= STRANGE * switches, strange


def words_changed(one: asr.Result, other: asr.Result) -> int:
    """Words that are heard otherwise, lost or repeated; one that is heard as two counts once."""
    changed = 0
    pairs = SequenceMatcher(None, one.text.split(), other.text.split(), autojunk=False)
    for kind, start, end, other_start, other_end in pairs.get_opcodes():
        if kind != "equal":
            fewer, more = sorted((end - start, other_end - other_start))
            changed += max(fewer, more - 1) if fewer else more
    return changed

"""What pre-training is taught: the phone at the centre of each frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import CorpusError
from training.synthesis import PHONES, SILENCE, frame_labels


def test_a_frame_is_labelled_by_the_phone_at_its_centre() -> None:
    # Centres at 35, 75, 115, 155 and 195 ms; a phone owns [its start, its end).
    phones = [("pau", 0.035), ("hh", 0.08), ("ay", 0.155), ("pau", 0.16)]
    assert [PHONES[i] for i in frame_labels(phones, 5)] == ["hh", "hh", "ay", "pau", "pau"]


@settings(deadline=None)
@given(
    lengths_ms=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    num_frames=st.integers(0, 100),
    data=st.data(),
)
def test_labels_equal_a_search_phone_by_phone(
    lengths_ms: list[int], num_frames: int, data: st.DataObject
) -> None:
    names = data.draw(
        st.lists(st.sampled_from(PHONES), min_size=len(lengths_ms), max_size=len(lengths_ms))
    )
    ends_ms = np.cumsum(lengths_ms)
    phones = [(name, end / 1000) for name, end in zip(names, ends_ms, strict=True)]

    def slow(centre_ms: int) -> str:
        for name, end in zip(names, ends_ms, strict=True):
            if centre_ms < end:
                return name
        return SILENCE

    labels = frame_labels(phones, num_frames)
    assert labels.shape == (num_frames,)
    assert labels.dtype == np.int64
    assert [PHONES[i] for i in labels] == [slow(40 * t + 35) for t in range(num_frames)]


def test_a_phone_outside_the_inventory_is_named() -> None:
    with pytest.raises(CorpusError, match="qq"):
        frame_labels([("pau", 0.1), ("qq", 0.2)], 5)

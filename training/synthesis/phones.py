"""The phones of flite and of festival's American voices, and their times as targets for frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr.errors import CorpusError

SILENCE = "pau"

# The phones of flite's US English front end (CMU lexicon), silence first.
PHONES: tuple[str, ...] = (
    SILENCE,
    *("aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f"),
    *("g", "hh", "ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh"),
    *("t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)

Phones = list[tuple[str, float]]  # (phone, end time in s), in order

_FIRST_CENTRE_S = 0.035  # encoder frame 0 sees feature frames 0..6, each of 10 ms


def frame_labels(
    phones: Sequence[tuple[str, float]],
    num_frames: int,
    frame_s: float = 0.04,
    inventory: Sequence[str] = PHONES,
) -> NDArray[np.int64]:
    """The phone at the centre of each encoder frame, as its index in `inventory`: (num_frames,).

    `phones`: (phone, end time in s), in order, as in a manifest row. Encoder frame t sees feature
    frames 4t..4t+6, whose centre is (4t + 3.5) * 10 ms. After the last phone there is silence.
    Raises CorpusError for a phone that is not in the inventory.
    """
    indices = {phone: index for index, phone in enumerate(inventory)}
    if unknown := sorted({phone for phone, _ in phones} - indices.keys()):
        raise CorpusError(f"phones {unknown} are not among the {len(inventory)} of the inventory")
    labels = np.array([indices[phone] for phone, _ in phones] + [indices[SILENCE]], dtype=np.int64)
    ends = np.array([end for _, end in phones], dtype=np.float64)
    # Rounded, so that a centre that is exactly a phone's end is so in binary fractions too.
    centres = np.round(np.arange(num_frames) * frame_s + _FIRST_CENTRE_S, 6)
    return labels[np.searchsorted(ends, centres, side="right")]

"""A recogniser for `asr.evaluation.isolated`: it hears how long the blocks were."""

import os

from asr.errors import AsrError
from asr.evaluation.isolated import Heard, Loaded
from asr.features import Samples


def load(fail: str = "") -> Loaded:
    print("a library that prints to stdout, where the answers go")
    if fail == "refused":
        raise AsrError("refused: no such model")
    if fail == "not installed":
        raise ModuleNotFoundError("No module named 'rival'", name="rival")
    return Loaded(lambda: _Stream(fail), "fake 1.0", "no model", 7.5)


class _Stream:
    def __init__(self, fail: str) -> None:
        self._fail = fail
        self._sizes: list[int] = []

    def accept(self, samples: Samples) -> None:
        if self._fail == "dies":
            os.write(2, b"first words\nSegmentation fault\n")
            os._exit(11)
        self._sizes.append(len(samples))

    def finish(self) -> Heard:
        return Heard(" ".join(map(str, self._sizes)))

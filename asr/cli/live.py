"""One line of a terminal that changes while a stream listens."""

import shutil
from typing import TextIO


class LiveLine:
    """Shows the end of a growing text in one terminal line; nothing where there is no terminal."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._enabled = output.isatty()

    def show(self, text: str) -> None:
        """Replace the line by the end of `text`, as much as fits."""
        width = shutil.get_terminal_size().columns - 1
        self._write(text if len(text) <= width else "…" + text[len(text) - width + 1 :])

    def clear(self) -> None:
        """Empty the line, so that the next output begins on it."""
        self._write("")

    def _write(self, line: str) -> None:
        if self._enabled:
            self._output.write(f"\r\x1b[K{line}")  # to column 0, erase to the end of the line
            self._output.flush()

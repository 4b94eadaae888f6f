"""Text to be spoken, and synthesisers that cost nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.synthesis.spoken import FakeSynthesizer
from training.synthesis import voices

NOVEL = [
    f"The old captain saw {word} boats, and went home."
    for word in ("red", "blue", "green", "black", "white", "many", "small", "fine", "grey", "old")
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text of ten sentences."""
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(NOVEL) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeSynthesizer], None]:
    """Put a synthesiser in the place of another."""
    return lambda fake: monkeypatch.setitem(voices.SYNTHESIZERS, fake.name, fake)

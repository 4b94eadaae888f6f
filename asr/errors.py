"""The errors that a user can cause. Commands print the message and exit with code 2."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.results import Result


class AsrError(Exception):
    """Bad input or environment. The message says what was given, what was expected, what to do."""


class AudioError(AsrError):
    """Audio that can't be read, decoded or used."""


class BundleError(AsrError):
    """A model bundle that is missing, damaged, or of another version."""


class BudgetError(AsrError):
    """A budget that can't be held on this machine. The message says what would fit."""


class BudgetExceeded(AsrError):
    """Memory passed its budget while a stream ran, and nothing more could be given back.

    The stream is over: `result` is the transcript of what it had recognised.
    """

    def __init__(self, message: str, result: "Result") -> None:
        super().__init__(message)
        self.result = result

    @property
    def text(self) -> str:
        """The text so far."""
        return self.result.text


class ManifestError(AsrError):
    """A manifest, or a row of it, that can't be used."""


class RecipeError(AsrError):
    """A training recipe with an unknown key or an impossible value."""


class CorpusError(AsrError):
    """A corpus with nothing usable in it."""


class ExportError(AsrError):
    """An export whose result is not equal to the model it came from."""

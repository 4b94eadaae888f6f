"""The errors that a user can cause. Commands print the message and exit with code 2."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.results import Event, Result


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

    The stream is over: `result` is the transcript of what it had recognised. `events` are those
    that the call which raised this could not return, the last words and segment of the stream
    among them: with the events of earlier calls they are all that it had to tell.
    """

    def __init__(self, message: str, result: "Result", events: Sequence["Event"] = ()) -> None:
        super().__init__(message)
        self.result = result
        self.events = tuple(events)

    def put_before(self, events: Sequence["Event"]) -> None:
        """Add what became known before `events`, and can't be returned either."""
        self.events = (*events, *self.events)

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

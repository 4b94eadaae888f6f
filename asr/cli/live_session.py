"""One session of `asr mic`, from the first block to the final result, whatever ends it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from asr.cli.live_keys import Keys
from asr.decoding.endpoint import EndpointRules
from asr.errors import AsrError, AudioError, BudgetExceeded
from asr.governor import OVERRUN_EVERY_S
from asr.live import LiveStream
from asr.memory import resident_mb
from asr.microphone import Microphone
from asr.recording import Recording
from asr.results import Endpoint, Event, Result

if TYPE_CHECKING:
    from asr.cli.live_view import Status

RULES = EndpointRules()
"""By which a session is cut into segments."""

_TICK_S = 0.1  # the longest wait before keys and signals are looked at
_PAUSE_MARGIN_S = 0.5  # a word's last token comes up to so much behind its sound
_ZEROS_TOLD_S = 3.0


class Screen(Protocol):
    """Where a session is shown."""

    def show(self, event: Event) -> None:
        """Show what an event changes."""

    def note(self, text: str) -> None:
        """Show something that the user should know."""

    def draw(self, status: "Callable[[], Status]", *, now: bool = False) -> None:
        """Show where the session stands; called all the time."""

    def close(self) -> None:
        """Leave nothing but the text, until the next `draw`."""


class Session:
    """From the first block to the final result, whatever ends it."""

    def __init__(
        self,
        live: LiveStream,
        microphone: Microphone,
        screen: Screen,
        keys: Keys | None,
        stopped: Callable[[], bool],
        recording: Recording | None = None,
    ) -> None:
        """Take what takes part; `recording` is the one that `microphone` feeds. `stopped` is asked
        whether the user wants to end."""
        self.live = live
        self.segments: list[Endpoint] = []  # those with words
        self.overflows: list[float] = []  # where the driver lost audio, in s
        self.error: AsrError | None = None  # what ended it ...
        self.output_error: OSError | None = None  # ... or that nobody sees it any more
        self._microphone = microphone
        self._screen = screen
        self._keys = keys
        self._stopped = stopped
        self._recording = recording
        self._quit = False
        self._finishing = False
        self._told: set[str] = set()

    def run(self) -> Result:
        """Listen until the user or an error ends it; return what was said until then."""
        try:
            try:
                self._listen()
            except AudioError as error:  # it comes behind the last block: the stream is whole
                self.error = error
            result = self._finish()
        except BudgetExceeded as error:
            self.error = error
            result = error.result
            self._microphone.stop()
            for event in error.events:
                self._take(event)
        self._tell(self._screen.close)
        return result

    def _listen(self) -> None:
        self._microphone.start()
        while not (self._quit or self._stopped() or self.output_error):
            self._step(_TICK_S)
            self._microphone.watch()
            self._handle_keys()

    def _finish(self) -> Result:
        """Recognise what waits, and end the stream."""
        self._finishing = True
        self._tell(lambda: self._screen.draw(self._status, now=True))
        self._microphone.stop()
        self.live.close()
        while self.live.wait():
            try:
                self._step(0)
            except AudioError as error:
                self.error = self.error or error
        final = self.live.finish()
        for event in (*final.endpoints, *final.decisions):
            self._take(event)
        return final.result

    def _step(self, timeout_s: float) -> None:
        """Recognise a block, if there is one in time, and show what became of it."""
        if self.live.wait(timeout_s):
            for event in self.live.take():
                self._take(event)
        self._look_for_losses()
        self._tell(lambda: self._screen.draw(self._status))

    def _take(self, event: Event) -> None:
        if isinstance(event, Endpoint) and event.text:
            self.segments.append(event)
        self._tell(lambda: self._screen.show(event))

    def _tell(self, action: Callable[[], None]) -> None:
        """Show something. An output that is gone, such as a closed pipe or terminal, ends the
        session: it is finished and kept in the dark."""
        if self.output_error is None:
            try:
                action()
            except OSError as error:
                self.output_error = error

    def _handle_keys(self) -> None:
        if self._keys and self._keys.wants_suspension:
            self._tell(self._screen.close)
            self._keys.suspend()
        pressed = self._keys.pressed() if self._keys else ""
        self._quit = "q" in pressed.lower()
        if pressed.count(" ") % 2:
            if self._microphone.paused:
                self._microphone.start()
            else:
                chunk_s = self.live.stream.point.chunk_ms / 1000
                self._microphone.pause((RULES.pause_s or 0.0) + chunk_s + _PAUSE_MARGIN_S)
            self._tell(lambda: self._screen.draw(self._status, now=True))

    def _look_for_losses(self) -> None:
        for time_s in self._microphone.take_overflows():
            if not self.overflows or time_s - self.overflows[-1] >= OVERRUN_EVERY_S:
                self._note(f"{time_s:.1f} s: the driver lost audio: this machine is too busy")
            self.overflows.append(time_s)
        if self._microphone.zero_s >= _ZEROS_TOLD_S:
            self._note_once("only zeros are heard: is it muted, or kept from this terminal?")
        if self._recording is not None and self._recording.error is not None:
            self._note_once(self._recording.error)

    def _note_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._note(text)

    def _note(self, text: str) -> None:
        self._tell(lambda: self._screen.note(text))

    def _status(self) -> "Status":
        from asr.cli.live_view import Status

        paused = self._microphone.paused
        return Status(
            state="finishing" if self._finishing else "paused" if paused else "listening",
            heard_s=self._microphone.heard_s,
            peak=self._microphone.take_peak(),
            queued_s=self.live.queued_s,
            point=self.live.stream.point,
            resident_mb=resident_mb(),
            report=self.live.report(),
        )

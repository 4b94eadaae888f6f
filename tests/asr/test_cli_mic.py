"""`asr mic`: what is said is on stdout and in the files, whatever ends the session."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner, Result

import asr
from asr.cli import app
from asr.errors import AudioError
from asr.supervisor import Supervisor
from tests.asr.fake_microphone import BUILT_IN, USB, FileBackend
from tests.asr.signals import noise
from tests.asr.terminal import Terminal
from tests.samples import SAMPLES, read_samples

ROOT = Path(__file__).parents[2]
FAST = 40.0  # times the speed of speech
RATE = 44_100


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two utterances at 44.1 kHz, with a silence between them that ends a segment.

    The tiny bundle of other tests never stops to speak, so these are for the built-in model. What
    it hears is compared with what it hears in the audio that was kept.
    """
    first, second = (
        soxr.resample(read_samples(sample)[: 3 * 16_000], 16_000, RATE) for sample in SAMPLES[:2]
    )
    hiss = 1e-4 * noise(2.0, RATE)
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    soundfile.write(path, np.concatenate([first, hiss, second]), RATE)
    return path


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch, recording: Path) -> Callable[..., None]:
    """Make the recording the microphone; Ctrl-C is pressed behind it, unless told otherwise."""

    def plug(**options: object) -> None:
        defaults = {"speed": FAST, "at_end": lambda: signal.raise_signal(signal.SIGINT)}
        backend = FileBackend(recording, **{**defaults, **options})
        monkeypatch.setattr("asr.cli.mic.PortAudio", lambda: backend)

    return plug


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["mic", *map(str, arguments)])


def kept(folder: Path) -> dict[str, Path]:
    """The files of the only session in a folder, by their suffix."""
    assert len({path.stem for path in folder.iterdir()}) == 1
    return {path.suffix: path for path in folder.iterdir()}


def segments_of(audio: Path) -> list[asr.Endpoint]:
    """What `asr transcribe --endpoints` makes of the audio that was kept."""
    stream = asr.load().stream(endpoints=asr.EndpointRules())
    events = [e for samples, rate in asr.read_blocks(audio) for e in stream.accept(samples, rate)]
    events += stream.finish().endpoints
    return [event for event in events if isinstance(event, asr.Endpoint) and event.text]


def test_a_line_a_segment_and_all_of_it_kept(plug_in: Callable, tmp_path: Path) -> None:
    plug_in()
    done = invoke("--save", tmp_path / "kept")
    assert done.exit_code == 0, done.stderr
    files = kept(tmp_path / "kept")
    assert sorted(files) == [".flac", ".json", ".txt"]
    segments = segments_of(files[".flac"])
    assert len(segments) >= 2
    assert done.stdout.splitlines() == [segment.text for segment in segments]
    assert files[".txt"].read_text() == done.stdout
    content = json.loads(files[".json"].read_text())
    assert content["audio"] == files[".flac"].name
    assert (content["device"], content["sample_rate"]) == ("Desk Mic", 44_100)
    assert content["text"] == " ".join(done.stdout.split())
    assert [segment["start_s"] for segment in content["segments"]] == [
        segment.start_s for segment in segments
    ]
    words = [word for segment in content["segments"] for word in segment["words"]]
    assert words == content["words"]
    assert content["duration_s"] >= 8.0
    assert (content["error"], content["overflows_s"]) == (None, [])
    assert content["budget"]["lost_audio_s"] == 0
    assert "listening to Desk Mic at 44100 Hz; Ctrl-C ends" in done.stderr
    assert "s of audio in " in done.stderr
    assert f"kept: {files['.flac']}" in done.stderr


def test_json_is_an_object_a_segment(plug_in: Callable, tmp_path: Path) -> None:
    plug_in()
    done = invoke("--json", "--save", tmp_path / "kept")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    content = json.loads(kept(tmp_path / "kept")[".json"].read_text())
    assert lines == content["segments"]
    assert (lines[0]["rule"], lines[-1]["rule"]) == ("pause", "end")


def test_an_unplugged_microphone_leaves_what_was_heard(plug_in: Callable, tmp_path: Path) -> None:
    plug_in(unplugged_s=1.0, at_end=lambda: None)
    done = invoke("--save", tmp_path / "kept")
    assert done.exit_code == 2
    files = kept(tmp_path / "kept")
    (segment,) = segments_of(files[".flac"])
    assert done.stdout == segment.text + "\n"
    message = "Desk Mic gave no more audio after 1.0 s: it was unplugged"
    assert f"error: {message}" in done.stderr
    assert json.loads(files[".json"].read_text())["error"].startswith(message)


def test_memory_that_runs_out_leaves_what_was_heard(
    plug_in: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_mb = chain([50.0] * 3, repeat(99.0))
    monkeypatch.setattr(
        "asr.recognizer.Supervisor", partial(Supervisor, resident=lambda: next(held_mb))
    )
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: 50.0)
    plug_in()
    save = tmp_path / "kept"
    done = invoke("--save", save, "--budget-memory-mb", 80)
    assert done.exit_code == 2
    assert "error: 99.0 MB of memory with a budget of 80 MB" in done.stderr
    content = json.loads(kept(save)[".json"].read_text())
    assert content["text"]
    assert done.stdout.split() == content["text"].split()
    assert content["budget"]["overruns"][-1]["budget"] == "memory"


def test_a_full_disk_is_told_and_the_text_goes_on(
    plug_in: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(disk: object, data: bytes) -> int:
        disk.error = OSError(28, "No space left on device")
        return 0

    monkeypatch.setattr("asr.recording._Disk.write", fail)
    plug_in()
    done = invoke("--save", tmp_path / "kept")
    assert done.exit_code == 2
    assert len(done.stdout.splitlines()) >= 2
    assert "No space left on device; the recording ends early" in done.stderr


@pytest.mark.parametrize("output", ["| head -n 1", "> /dev/full"])
def test_an_output_that_is_gone_ends_the_session_in_good_order(
    recording: Path, tmp_path: Path, output: str
) -> None:
    command = [*RUN, recording, FAST, "mic", "--save", tmp_path / "kept"]
    line = f"{shlex.join(map(str, command))} {output}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    files = kept(tmp_path / "kept")
    segments = segments_of(files[".flac"])
    assert files[".txt"].read_text().splitlines() == [segment.text for segment in segments]
    assert len(segments) >= 1


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_program_without_outputs_keeps_what_it_hears(
    recording: Path, tmp_path: Path, closed: str
) -> None:
    command = [*RUN, recording, FAST, "mic", "--save", tmp_path / "kept"]
    # --foreground: one signal, or `timeout` sends a second one to its process group.
    line = f"timeout --foreground --signal=INT 8 {shlex.join(map(str, command))} {closed}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    files = kept(tmp_path / "kept")
    assert files[".txt"].read_text()
    assert soundfile.info(files[".flac"]).duration > 2


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        def devices(self) -> list:
            return [BUILT_IN, USB]

    monkeypatch.setattr("asr.cli.mic.PortAudio", Backend)
    done = invoke("--list-devices")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    assert "* 3  USB Mic: Audio (hw:1,0)" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "9"], "error: no microphone has the index 9; expected one of these:"),
        (["--rate", "7"], "error: a sample rate of 7 Hz; expected 1000 to 1000000"),
        (["--model", "nowhere"], "error: nowhere: no such directory"),
        (["--budget-rtf", "0"], "error: a budget of rtf=0.0; expected a positive number"),
    ],
)
def test_bad_options(plug_in: Callable, tmp_path: Path, options: list[str], message: str) -> None:
    plug_in()
    done = invoke(*options, "--save", tmp_path / "kept")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert not list(tmp_path.glob("kept/*")), "an empty recording is left"


def test_without_portaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AudioError("a microphone needs the PortAudio library")

    monkeypatch.setattr("asr.cli.mic.PortAudio", fail)
    done = invoke()
    assert (done.exit_code, done.stderr) == (2, "error: a microphone needs the PortAudio library\n")


# In a terminal. The fake device hisses on behind its recording, as a room does.

RUN = [sys.executable, "-m", "tests.asr.fake_microphone"]


def open_terminal(recording: Path, *options: object, speed: float = 4) -> Terminal:
    command = [*RUN, recording, speed, "mic", *options]
    return Terminal([str(part) for part in command])


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_session_in_a_terminal(recording: Path, tmp_path: Path) -> None:
    """The panel while it listens, pauses and goes on; then the text alone, and the terminal as it
    was."""
    save = tmp_path / "kept"
    with open_terminal(recording, "--save", save, "--budget-rtf", 50) as terminal:
        before = terminal.modes
        terminal.wait_for("● listening   Desk Mic, 44.1 kHz")
        assert terminal.modes != before
        terminal.wait_for(lambda text: "rtf" in text and " of 50" in text and "[320]" in text)
        terminal.wait_for("space pauses · q ends")
        terminal.wait_for(lambda text: len(text.split("\n")[3]) > 5)  # words in the panel
        terminal.press(" ")
        terminal.wait_for("‖ paused")
        terminal.wait_for(lambda text: text.startswith("  0:0") and " pause\n" in text)
        terminal.press(" ")
        terminal.wait_for("● listening")
        terminal.press("xq")
        assert terminal.wait_for_end() == 0
        assert terminal.modes == before
        assert not terminal.screen.cursor.hidden
        files = kept(save)
        segments = segments_of(files[".flac"])
        shown = [line.split() for line in terminal.lines]
        assert "listening" not in terminal.text
        assert shown[0][0] == "0:00"
        assert shown[0][-1] == segments[0].rule == "pause"
        words = [word for line in shown for word in line]
        for segment in segments:
            assert set(segment.text.split()) <= set(words)
        assert "kept:" in terminal.text


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back(recording: Path) -> None:
    """And with `bg` it listens on, and leaves the keys to the shell."""
    with Terminal(["bash", "--norc", "-i"]) as terminal:
        terminal.wait_for("bash-")
        shell_modes = terminal.modes
        terminal.press(shlex.join(map(str, [*RUN, recording, 1, "mic"])) + "\n")
        terminal.wait_for("● listening")
        modes = terminal.modes
        terminal.press("\x1a")
        terminal.wait_for("Stopped")
        assert not terminal.screen.cursor.hidden
        assert "level" not in terminal.text
        terminal.press("bg\n")
        terminal.wait_for("● listening")
        terminal.press("jobs\n")
        terminal.wait_for("Running")
        terminal.press("fg\n")
        terminal.wait_for(lambda _: terminal.modes == modes != shell_modes)
        terminal.press(" ")
        terminal.wait_for("‖ paused")
        terminal.press("q")
        terminal.wait_for("s of audio in ")


@pytest.mark.parametrize("end", ["\x03", "hang up"])
def test_ctrl_c_and_a_closed_terminal_keep_everything(
    recording: Path, tmp_path: Path, end: str
) -> None:
    save = tmp_path / "kept"
    with open_terminal(recording, "--save", save) as terminal:
        terminal.wait_for(lambda text: len(text.split("\n")) > 3 and len(text.split("\n")[3]) > 5)
        if end == "hang up":
            terminal.hang_up()
        else:
            terminal.press(end)
            assert terminal.wait_for_end() == 0
            assert not terminal.screen.cursor.hidden
    files = kept(save)
    segments = segments_of(files[".flac"])
    assert files[".txt"].read_text().splitlines() == [segment.text for segment in segments]
    assert segments


def test_a_terminal_that_can_not_draw_gets_lines(recording: Path, tmp_path: Path) -> None:
    command = shlex.join(
        map(
            str,
            [
                *RUN,
                recording,
                FAST,
                "mic",
            ],
        )
    )
    with Terminal(["bash", "-c", f"TERM=dumb exec {command}"]) as terminal:
        terminal.wait_for("listening to Desk Mic at 44100 Hz; Ctrl-C ends")
        terminal.wait_for(lambda text: len(text.split("\n")) > 2)
        terminal.press("\x03")
        assert terminal.wait_for_end() == 0
        assert "●" not in terminal.text
        assert b"\x1b[?25l" not in terminal.output

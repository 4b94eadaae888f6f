"""`asr transcribe`: text on stdout, the rest on stderr, exit codes, and nothing lost on the way."""

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

import asr
from asr.cli import app
from asr.cli.live import LiveLine
from tests.asr.signals import noise
from tests.samples import SAMPLES, read_samples

Write = Callable[..., Path]
ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-c", "from asr.cli import main; main()", "transcribe"]


def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)], input=stdin)


@pytest.fixture
def expected(tiny_bundle: Path) -> Callable[[Path], asr.Result]:
    return asr.load(tiny_bundle).transcribe


def test_one_file(tiny_bundle: Path, write_speech: Write, expected: Callable) -> None:
    path = write_speech("a.wav")
    done = invoke(path, "--model", tiny_bundle)
    assert done.exit_code == 0
    assert done.stdout == expected(path).text + "\n"
    assert "3.0 s of audio in " in done.stderr
    assert "RTF 0." in done.stderr
    assert "peak memory" in done.stderr


def test_several_files_are_named(
    tiny_bundle: Path, write_speech: Write, expected: Callable
) -> None:
    paths = [write_speech("a.wav"), write_speech("b.flac", 2.0, 44_100)]
    done = invoke(*paths, "--model", tiny_bundle)
    assert done.stdout.splitlines() == [f"{path}: {expected(path).text}" for path in paths]
    assert "5.0 s of audio in " in done.stderr


def test_json(tiny_bundle: Path, write_speech: Write, expected: Callable) -> None:
    paths = [write_speech("a.wav"), write_speech("b.wav", 1.0)]
    done = invoke(*paths, "--model", tiny_bundle, "--json")
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        content = json.loads(line)
        assert content.pop("file") == str(path)
        assert content.pop("compute_s") > 0
        assert content.pop("error") is None
        assert content == json.loads(json.dumps(expected(path).to_dict()))


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_raw_pcm_on_stdin(tiny_bundle: Path, rate: int) -> None:
    pcm = (noise(2.0, rate) * 32767).astype("<i2")
    stream = asr.load(tiny_bundle).stream()
    stream.accept(pcm, rate)
    done = invoke("-", "--model", tiny_bundle, "--rate", rate, stdin=pcm.tobytes())
    assert done.stdout == stream.finish().text + "\n"


def test_one_bad_file_does_not_stop_the_others(
    tiny_bundle: Path, write_speech: Write, tmp_path: Path, expected: Callable
) -> None:
    good = write_speech("good.wav")
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    done = invoke(tmp_path / "none.wav", text, tmp_path, good, "--model", tiny_bundle)
    assert done.exit_code == 2
    assert done.stdout == f"{good}: {expected(good).text}\n"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    assert f"{tmp_path / 'none.wav'}: no such file" in errors[0]


def test_a_truncated_file_gives_what_is_there(tiny_bundle: Path, write_speech: Write) -> None:
    path = write_speech("a.wav", 4.0)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 32_000])
    whole = write_speech("b.wav", 4.0)
    soundfile.write(whole, soundfile.read(whole, dtype="int16")[0][:32_000], 16_000)
    done = invoke(path, "--model", tiny_bundle)
    assert done.exit_code == 2
    assert done.stdout == invoke(whole, "--model", tiny_bundle).stdout
    assert "its header states 4.00 s, 2.00 s could be read" in done.stderr


def test_errors_are_in_the_json_too(tiny_bundle: Path, tmp_path: Path) -> None:
    done = invoke(tmp_path / "none.wav", "--model", tiny_bundle, "--json")
    content = json.loads(done.stdout)
    assert done.exit_code == 2
    assert (content["text"], content["words"]) == ("", [])
    assert "no such file" in content["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nowhere"], "error: nowhere: no such directory or zip; expected"),
        (["--chunk-ms", "50"], "error: a chunk of 50 ms; expected a multiple of 40 ms"),
        (["--precision", "int4"], "this model has no precision 'int4'; it has int8"),
        (["--threads", "0"], "error: 0 threads"),
        (["--rate", "8000"], "error: --rate 8000 is for raw PCM on stdin, and no file is '-'"),
    ],
)
def test_bad_options(
    tiny_bundle: Path, write_speech: Write, options: list[str], message: str
) -> None:
    model = [] if "--model" in options else ["--model", tiny_bundle]
    done = invoke(write_speech("a.wav"), *model, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def two_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with 10 s of silence between two sentences, for the built-in model."""
    first, second = (read_samples(sample) for sample in SAMPLES[:2])
    path = tmp_path_factory.mktemp("spoken") / "two.wav"
    soundfile.write(path, np.concatenate([first, np.zeros(160_000), second]), 16_000)
    return path


def test_endpoints_give_a_line_a_segment_and_silence_is_skipped(two_sentences: Path) -> None:
    done = invoke(two_sentences, "--endpoints", "--skip-silence")
    assert done.exit_code == 0
    lines = [re.fullmatch(r"\[([\d.]+)-([\d.]+)\] (.+)", line) for line in done.stdout.splitlines()]
    assert None not in lines, done.stdout
    segments = [(float(line[1]), float(line[2]), line[3]) for line in lines if line]
    gap_from_s = soundfile.info(SAMPLES[0].path).duration
    before = [segment for segment in segments if segment[1] < gap_from_s + 0.5]
    after = [segment for segment in segments if segment[0] > gap_from_s + 10.0]
    assert before and after and segments == before + after
    assert "s of silence skipped)" in done.stderr

    done = invoke(two_sentences, "--endpoints", "--skip-silence", "--json")
    content = json.loads(done.stdout)
    found = [
        (segment["start_s"], segment["end_s"], segment["text"]) for segment in content["segments"]
    ]
    assert found == segments
    assert content["text"] == " ".join(text for _, _, text in segments)
    assert content["words"][0]["start_s"] == segments[0][0]
    assert content["words"][-1]["end_s"] == segments[-1][1]
    assert content["segments"][0]["rule"] == "pause"
    assert content["segments"][0]["reason"].startswith("1.2 s of silence after '")
    assert content["segments"][-1]["rule"] == "end"
    assert 10.0 - 4.5 - 2 * 0.32 < content["skipped_s"] < 10.0


def test_several_files_with_endpoints_are_named(two_sentences: Path) -> None:
    path = SAMPLES[0].path
    done = invoke(path, two_sentences, "--endpoints")
    names = [line.split(": [")[0] for line in done.stdout.splitlines()]
    assert names[0] == str(path)
    assert names.count(str(two_sentences)) >= 2


def test_silence_has_no_segment_and_an_empty_text(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(160_000), 16_000)
    assert invoke(path, "--skip-silence").stdout == "\n"
    done = invoke(path, "--endpoints", "--skip-silence")
    assert (done.exit_code, done.stdout) == (0, "")
    done = invoke(path, "--endpoints", "--skip-silence", "--json")
    content = json.loads(done.stdout)
    assert (content["text"], content["segments"], content["error"]) == ("", [], None)
    assert content["skipped_s"] > 5.0


def test_an_empty_file_has_no_segment_and_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    done = invoke(tmp_path / "empty.wav", "--endpoints", "--skip-silence")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "empty.wav: an empty file" in done.stderr
    done = invoke(tmp_path / "empty.wav", "--endpoints", "--skip-silence", "--json")
    content = json.loads(done.stdout)
    assert (content["segments"], content["skipped_s"]) == ([], 0.0)
    assert "an empty file" in content["error"]


def test_usage_errors_exit_with_2() -> None:
    assert invoke().exit_code == 2
    assert invoke("--nonsense").exit_code == 2


def test_realtime_feeds_at_the_speed_of_speech(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    assert invoke(write_speech("a.wav"), "--model", tiny_bundle, "--realtime").exit_code == 0
    assert now == pytest.approx(3.0)


def test_interrupt_prints_what_is_recognised_so_far(tiny_bundle: Path) -> None:
    """Ctrl-C while more audio is awaited. The live text on a terminal says when to press it."""
    pcm = (noise(2.0) * 32767).astype("<i2")
    stream = asr.load(tiny_bundle).stream()
    stream.accept(pcm)
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [*RUN, "-", "--model", str(tiny_bundle)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pcm.tobytes())
    process.stdin.flush()
    live = os.read(terminal, 100)
    assert live.startswith(b"\r\x1b[K")
    process.send_signal(signal.SIGINT)
    stdout = process.stdout.read().decode()
    assert process.wait(timeout=20) == 130
    assert b"s of audio in" in os.read(terminal, 1000)
    for file in (process.stdin, process.stdout):
        file.close()
    for descriptor in (terminal, stderr):
        os.close(descriptor)
    heard = stdout.split()[:-1]  # the interrupt may have cut the last word in two
    assert heard
    assert stream.finish().text.split()[: len(heard)] == heard


def test_an_interrupt_while_the_stream_ends_loses_nothing(
    tiny_bundle: Path, write_speech: Write, expected: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a second Ctrl-C after the first."""
    path = write_speech("a.wav")
    text = expected(path).text
    finish = asr.Stream.finish

    def interrupted(stream: asr.Stream) -> asr.Final:
        os.kill(os.getpid(), signal.SIGINT)
        return finish(stream)

    monkeypatch.setattr(asr.Stream, "finish", interrupted)
    done = invoke(path, "--model", tiny_bundle)
    assert (done.exit_code, done.stdout) == (130, text + "\n")


def test_no_socket_is_ever_opened(tiny_bundle: Path, write_speech: Write) -> None:
    """Python's audit hook sees every socket that Python code makes, however it is reached."""
    code = """
import socket, sys
def refuse(event, arguments):
    if event.startswith("socket.") or event == "urllib.Request":
        raise SystemExit(f"network use: {event}")
sys.addaudithook(refuse)
from asr.cli import main
main()
"""
    probe = code.replace("from asr.cli import main\nmain()", "socket.socket()")
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode != 0
    command = [sys.executable, "-c", code, "transcribe", str(write_speech("a.wav"))]
    done = subprocess.run(
        [*command, "--model", str(tiny_bundle)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 2


def test_memory_does_not_grow_with_the_recording(tiny_bundle: Path, write_speech: Write) -> None:
    def peak_mb(path: Path) -> float:
        done = subprocess.run(
            [*RUN, str(path), "--model", str(tiny_bundle), "--chunk-ms", "640"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stderr.split("peak memory ")[1].split(" MB")[0])

    minute = write_speech("minute.wav", 60.0)
    samples = soundfile.read(minute, dtype="int16")[0]
    longer = minute.with_name("longer.wav")
    soundfile.write(longer, np.tile(samples, 5), 16_000)
    # Five minutes are 10 MB of samples and 10 MB of features; only the text may grow.
    assert peak_mb(longer) - peak_mb(minute) < 5


def test_a_closed_pipe_is_no_traceback(tiny_bundle: Path, write_speech: Write) -> None:
    path = write_speech("a.wav")
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [*RUN, str(path), "--model", str(tiny_bundle)]
    done = subprocess.run(command, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_is_no_traceback(
    tiny_bundle: Path, write_speech: Write, options: list[str]
) -> None:
    command = [*RUN, str(write_speech("a.wav")), "--model", str(tiny_bundle), *options]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_stdout_can_not_encode(tiny_bundle: Path, write_speech: Write) -> None:
    path = write_speech("a.wav")
    odd = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.wav"))
    command = [*RUN, str(odd), str(odd), "--model", str(tiny_bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.count(rb"\udcff.wav: ") == 2


def test_closed_stdin(tiny_bundle: Path) -> None:
    command = f"{shlex.join([*RUN, '-', '--model', str(tiny_bundle)])} <&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: '-' is stdin, which is closed" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_line_shows_the_end_of_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "11")
    terminal = Terminal()
    line = LiveLine(terminal)
    line.show("one two")
    line.show("one two three")
    line.clear()
    assert terminal.getvalue().split("\r\x1b[K") == ["", "one two", "…two three", ""]


def test_live_line_is_silent_without_a_terminal() -> None:
    output = io.StringIO()
    LiveLine(output).show("one two")
    assert output.getvalue() == ""

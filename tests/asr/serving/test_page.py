"""The web page in a browser: its text is that of `asr transcribe`, and anybody can use it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import asr
from asr.decoding.endpoint import EndpointRules
from asr.serving.settings import Settings
from tests.asr.serving.chromium import CHROMIUM, Tab, open_tab
from tests.asr.serving.live_server import LiveServer, serving
from tests.samples import SAMPLES, Sample, read_samples

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt install chromium"),
    pytest.mark.timeout(180),
]

SPOKEN, DROPPED = SAMPLES[0], SAMPLES[-1]
KEEP_SENT = """{
    const send = WebSocket.prototype.send;
    window.sent = [];
    WebSocket.prototype.send = function (data) {
        if (data.buffer) window.sent.push(data.slice());
        return send.call(this, data);
    };
}"""
TAKE_20_S = """{
    window.blocks = window.waits = 0; // of half a second
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        window.blocks++;
        return send.call(this, data);
    };
    const full = { get: () => (window.blocks < 40 ? 0 : 1e9) };
    Object.defineProperty(WebSocket.prototype, "bufferedAmount", full);
    const later = window.setTimeout;
    window.setTimeout = (...given) => {
        window.waits++;
        return later(...given);
    };
}"""
STATUS = "document.getElementById('status').textContent"
TEXT = "document.getElementById('text').innerText.trim()"
BUTTON = "document.getElementById('microphone-label').textContent"


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[asr.Recognizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield asr.load()


@pytest.fixture(scope="module")
def server(recognizer: asr.Recognizer) -> Iterator[LiveServer]:
    with serving(recognizer, Settings(port=0)) as live:
        yield live


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    silence = np.zeros(16_000, np.float32)
    soundfile.write(path, np.concatenate([silence, read_samples(SPOKEN), silence]), 16_000)
    with open_tab(path) as page:
        yield page


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_recording(
    recognizer: asr.Recognizer, server: LiveServer, tab: Tab, sample: Sample
) -> None:
    expected = recognizer.transcribe(sample.path)
    tab.open(server.url)
    tab.choose_file("#file", sample.path)
    tab.wait_for(f"{STATUS} === 'Done.'")
    assert tab.evaluate(TEXT) == expected.text
    words = "[...document.querySelectorAll('#words li')].map((w) => [w.textContent, w.title])"
    shown = [(text, float(title.split()[0])) for text, title in tab.evaluate(words)]
    assert shown == [(word.text, pytest.approx(word.start_s)) for word in expected.words]
    gauges = "[...document.querySelectorAll('.gauge dd')].map((value) => value.textContent)"
    assert len(tab.evaluate(gauges)) == 3 and "–" not in tab.evaluate(gauges)
    assert tab.console == []


def test_text_and_subtitles_are_saved(
    recognizer: asr.Recognizer, server: LiveServer, tab: Tab
) -> None:
    """What the links would download is read where it is made."""
    expected = recognizer.transcribe(DROPPED.path)
    tab.open(server.url)
    tab.evaluate("URL.createObjectURL = (blob) => { (window.saved ??= []).push(blob); return ''; }")
    tab.choose_file("#file", DROPPED.path)
    tab.wait_for(f"{STATUS} === 'Done.'")
    for button in ("save-text", "save-srt"):
        tab.evaluate(f"document.getElementById('{button}').click()")
    text, srt = tab.evaluate("Promise.all(window.saved.map((blob) => blob.text()))")
    assert text == f"{expected.text}\n"
    cues = re.findall(r"\d+\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)\n", srt)
    assert " ".join(words for _, _, words in cues) == expected.text
    assert all(start < end for start, end, _ in cues)
    assert cues[0][0] == f"00:00:{expected.words[0].start_s:06.3f}".replace(".", ",")


def test_the_microphone_by_keyboard_alone(
    recognizer: asr.Recognizer, server: LiveServer, tab: Tab
) -> None:
    """A browser plays the recording to itself, resampled and with the gaps of a busy machine; of
    what it then sends, every sample is recognised, and none is lost at either end."""
    tab.open(server.url)
    tab.evaluate(KEEP_SENT)
    tab.key("Tab", 9)
    assert tab.evaluate("document.activeElement.id") == "microphone"
    tab.key("Enter", 13, "\r")
    tab.wait_for(f"{STATUS} === 'Listening.'")
    assert tab.evaluate(BUTTON) == "Stop"
    tab.wait_for("document.querySelectorAll('#segments p').length >= 1")
    tab.key("Enter", 13, "\r")
    tab.wait_for(f"{STATUS}.startsWith('Done.')")
    assert tab.evaluate(BUTTON) == "Speak"
    rate = tab.evaluate("new AudioContext().sampleRate")
    sent = np.array(tab.evaluate("window.sent.flatMap((block) => [...block])"), np.float32)
    stream = recognizer.stream(endpoints=EndpointRules())
    stream.accept(sent, rate)
    assert tab.evaluate(TEXT).split() == stream.finish().text.split() != []
    assert likeness(soxr.resample(sent, rate, 16_000), read_samples(SPOKEN)) > 0.4
    assert tab.console == []


def likeness(heard: np.ndarray, played: np.ndarray) -> float:
    """Return the correlation at the best delay, 1 for equal signals."""
    size = len(heard) + len(played)
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size))
    return float(np.fft.irfft(product, size).max() / (np.linalg.norm(played) ** 2))


def test_what_a_screen_reader_is_told(server: LiveServer, tab: Tab) -> None:
    tab.open(server.url)
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    seen = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored")
    }
    assert {("button", "Speak"), ("button", "Save text"), ("heading", "Transcript")} <= seen
    assert {("meter", "Real-time factor"), ("meter", "Latency"), ("meter", "Memory")} <= seen
    assert "log" in {role for role, _ in seen}
    unnamed = [role for role, name in seen if role in ("button", "meter", "textbox") and not name]
    assert unnamed == []


def test_a_screen_reader_is_not_told_of_every_step(server: LiveServer, tab: Tab) -> None:
    tab.open(server.url)
    tab.evaluate("""{
        window.said = [];
        const status = document.getElementById("status");
        const keep = () => window.said.push(status.textContent);
        new MutationObserver(keep).observe(status, { childList: true });
    }""")
    tab.choose_file("#file", DROPPED.path)
    tab.wait_for(f"{STATUS} === 'Done.'")
    reading = f"Reading {DROPPED.path.name} …"
    assert tab.evaluate("said") == [reading, "Transcribing …", "Done."]


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.tile(read_samples(DROPPED), 20), 16_000)
    return path


def test_a_recording_is_stopped_with_what_was_heard(
    server: LiveServer, tab: Tab, long_recording: Path
) -> None:
    """And who reads further up is not taken to the end of the text."""
    tab.open(server.url)
    tab.evaluate(TAKE_20_S)
    text = "document.getElementById('text')"
    tab.evaluate(f"{text}.style = 'width: 6rem; height: 2rem'")
    tab.choose_file("#file", long_recording)
    tab.wait_for(f"{text}.scrollHeight > 4 * {text}.clientHeight")
    assert tab.evaluate(f"{text}.scrollTop") > 0
    assert tab.evaluate(BUTTON) == "Stop"
    tab.evaluate(f"{text}.scrollTop = 0; document.getElementById('microphone').click()")
    tab.wait_for(f"{STATUS} === 'Done.'")
    assert tab.evaluate(f"{text}.scrollTop") == 0
    assert tab.evaluate("window.blocks") == 41, "20 s, and that no more follows"
    assert tab.evaluate(BUTTON) == "Speak"


def test_a_server_that_goes_away(
    recognizer: asr.Recognizer, tab: Tab, long_recording: Path
) -> None:
    """It is told, and the page waits for it no longer: not even for what was not sent yet."""
    with serving(recognizer, Settings(port=0)) as live:
        tab.open(live.url)
        tab.evaluate(TAKE_20_S)
        tab.choose_file("#file", long_recording)
        tab.wait_for("window.waits > 2")
    tab.wait_for(f"{STATUS} === 'The server stops; this is what it heard.'")
    assert tab.evaluate(BUTTON) == "Speak"
    waits = tab.evaluate("window.waits")
    time.sleep(0.5)
    assert tab.evaluate("window.waits") <= waits + 1


def test_a_microphone_that_fails_is_given_back(server: LiveServer, tab: Tab) -> None:
    tab.open(server.url)
    tab.evaluate("""{
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.media = await open(wanted));
        window.AudioWorkletNode = function () { throw new Error("no node"); };
    }""")
    tab.evaluate("document.getElementById('microphone').click()")
    tab.wait_for(f'{STATUS} === "The microphone can\'t be used: no node"')
    assert tab.evaluate("window.media.getTracks().map((t) => t.readyState)") == ["ended"]
    assert tab.evaluate(BUTTON) == "Speak"


def test_a_microphone_that_nobody_listens_to_is_not_kept_for_ever(
    server: LiveServer, tab: Tab
) -> None:
    tab.open(server.url)
    full = "{ get: () => 60 * 4 * 48000 + 1 }"
    tab.evaluate(f"Object.defineProperty(WebSocket.prototype, 'bufferedAmount', {full}); 0")
    tab.evaluate("document.getElementById('microphone').click()")
    tab.wait_for(f"{STATUS}.startsWith('The server takes no more audio')")
    assert tab.evaluate(BUTTON) == "Speak"


def test_a_file_that_is_no_recording(server: LiveServer, tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("no audio")
    tab.open(server.url)
    tab.choose_file("#file", path)
    tab.wait_for(f"{STATUS} === 'notes.wav is no recording that this browser can decode.'")
    assert tab.evaluate("document.getElementById('microphone').disabled") is False


def test_a_token(recognizer: asr.Recognizer, tab: Tab) -> None:
    with serving(recognizer, Settings(port=0, token="a b")) as live:
        tab.open(live.url)
        tab.wait_for("!document.getElementById('token-form').hidden")
        tab.open(f"{live.url}#token=a%20b")
        tab.wait_for("document.querySelector('.gauge') !== null")
        assert tab.evaluate("document.getElementById('token-form').hidden")
        assert tab.evaluate("location.href") == live.url, "it isn't left in the address"
        tab.open(f"{live.url}#token=wrong")
        tab.choose_file("#file", DROPPED.path)
        tab.wait_for(f"{STATUS}.endsWith('is the token right?')")
        assert tab.evaluate("document.activeElement.id") == "token", "it is asked for again"
        tab.evaluate("document.getElementById('token').value = 'a b'")
        tab.key("Enter", 13, "\r")
        assert tab.evaluate("document.getElementById('token-form').hidden")
        tab.choose_file("#file", DROPPED.path)
        tab.wait_for(f"{STATUS} === 'Done.'")

"""Hours of audio, thousands of splits: what a stream promises holds for as long as it is open.

All of it is slow: some minutes each on an idle machine, in processes of their own.
"""

import shutil
from pathlib import Path

import pytest

import asr
from tests.exact_bundle import CHECKPOINT, write_exact_bundle
from tests.soak import Soak, in_own_process, soak_file, soak_live, write_recording
from tests.splits import check_splits
from training.checkpoint import load_model

HOUR = 3600.0
WARM_UP_S = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * HOUR)]


def test_ten_thousand_splits_into_blocks_give_the_text_of_one_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = write_exact_bundle(tmp_path / "en", *load_model(CHECKPOINT))
    checked = 0
    for seed in check_splits(exact, range(10_000)):
        checked += 1
        if checked % 500 == 0:
            with capsys.disabled():
                print(f"{checked} splits, up to seed {seed}", flush=True)
    assert checked == 10_000


def check_memory(found: Soak, seconds: float, growth_mb: float) -> None:
    """The memory is that of the beginning, and the stream heard everything up to its end."""
    held = found.held
    assert found.growth_mb(WARM_UP_S) < growth_mb, [item.resident_mb for item in held]
    assert len({item.state_bytes for item in held}) == 1
    assert max(item.waiting_bytes for item in held) < 100_000
    assert found.duration_s == pytest.approx(seconds)
    assert found.words > seconds / 10
    assert found.last_word_s > seconds - 60


@pytest.mark.parametrize(
    ("rules", "gate"), [(None, False), (asr.EndpointRules(), True)], ids=["plain", "resets"]
)
def test_an_hour_grows_the_memory_by_less_than_a_megabyte(
    rules: asr.EndpointRules | None, gate: bool
) -> None:
    """The text that it keeps is in that: some 100 kB."""
    found = in_own_process(soak_live, HOUR, 60.0, rules, gate)
    check_memory(found, HOUR, growth_mb=1.0)
    assert (found.segments > 100) == (rules is not None)
    assert (found.skipped_s > 60) == gate


def test_a_file_of_ten_hours_passes(tmp_path: Path) -> None:
    """A WAV file of 1.15 GB, written whole: a sparse one would be silence."""
    seconds = 10 * HOUR
    if shutil.disk_usage(tmp_path).free < 1.5e9:
        pytest.skip(f"1.15 GB are needed in {tmp_path}")
    path = tmp_path / "long.wav"
    try:
        write_recording(path, seconds)
        found = in_own_process(soak_file, path, 600.0)
    finally:
        path.unlink(missing_ok=True)  # pytest keeps the folders of its last runs
    check_memory(found, seconds, growth_mb=10.0)  # 1 MB an hour, as above
    # The result has every word and token as an object: 0.4 kB a word.
    assert found.peak_mb - found.held[-1].resident_mb < 1e-3 * found.words

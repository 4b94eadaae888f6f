"""Each peer, loaded in this process, hears a sample; each takes all of it."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from asr.bundle import builtin_bundle_path
from asr.errors import AsrError, BundleError
from asr.evaluation.isolated import Loaded
from asr.evaluation.peers import earshot, pocketsphinx, sherpa
from tests.samples import SAMPLES, read_samples

RAIN = next(sample for sample in SAMPLES if sample.name == "rain")


def hear(loaded: Loaded) -> str:
    samples = read_samples(RAIN)
    stream = loaded.open()
    for start in range(0, len(samples), 5120):
        stream.accept(samples[start : start + 5120])
    return stream.finish().text


def test_sherpa_onnx_and_earshot_hear_the_same_with_one_bundle() -> None:
    ours, theirs = earshot.load(), sherpa.load()
    assert hear(ours) == hear(theirs) != ""
    assert ours.model_mb == theirs.model_mb


def test_pocketsphinx_hears_words_of_its_own_model() -> None:
    loaded = pocketsphinx.load()
    assert "the window" in hear(loaded)
    assert hear(loaded) == hear(loaded), "a recording leaves nothing to the next"
    assert loaded.model_mb is not None and 20 < loaded.model_mb < 60


@pytest.mark.parametrize("load", [earshot.load, sherpa.load])
def test_an_unknown_precision_is_refused(load: object) -> None:
    with pytest.raises(BundleError, match="int3"):
        load(precision="int3")


def test_a_zip_is_refused(tmp_path: Path) -> None:
    """sherpa-onnx itself would abort the process."""
    folder = builtin_bundle_path()
    with ZipFile(tmp_path / "en.zip", "w") as archive:
        for file in (file for file in folder.iterdir() if file.is_file()):
            archive.write(file, file.name)
    with pytest.raises(AsrError, match="can't read a zip; unpack"):
        sherpa.load(str(tmp_path / "en.zip"))

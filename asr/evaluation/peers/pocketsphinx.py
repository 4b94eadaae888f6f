"""PocketSphinx with its own English model and n-gram language model, both from its package."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from asr.evaluation.isolated import Heard, Loaded
from asr.features import SAMPLE_RATE, Samples


def load() -> Loaded:
    """Load the model that the package brings, with the settings that it has by default."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")
    files = [Path(decoder.config["lm"]), Path(decoder.config["dict"])]
    files += Path(decoder.config["hmm"]).iterdir()
    return Loaded(
        open=lambda: _Stream(decoder),
        runs_on=f"pocketsphinx {metadata.version('pocketsphinx')}",
        model="its own en-us, HMM and trigrams",
        model_mb=sum(file.stat().st_size for file in files) / 1e6,
    )


class _Stream:
    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        decoder.reinit_feat()  # the cepstral mean of the recording before is not this one's
        decoder.start_utt()

    def accept(self, samples: Samples) -> None:
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        self._decoder.process_raw(pcm.tobytes())
        self._decoder.hyp()

    def finish(self) -> Heard:
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return Heard(hypothesis.hypstr if hypothesis else "")

"""Who speaks is chosen in one line."""

import pytest

from asr.errors import CorpusError
from training.synthesis import VoiceGroup, parse_voices
from training.synthesis.espeak import Espeak


def test_synthesisers_and_single_voices_with_their_shares() -> None:
    assert parse_voices("flite") == (VoiceGroup("flite", ("slt", "rms", "awb", "kal16")),)
    assert parse_voices("espeak-ng=60, festival:kal_diphone=40,espeak-ng:en-us+m3") == (
        VoiceGroup("espeak-ng", Espeak.voices, 60.0),
        VoiceGroup("festival", ("kal_diphone",), 40.0),
        VoiceGroup("espeak-ng", ("en-us+m3",), 1.0),
    )


@pytest.mark.parametrize(
    "text", ["", "fest", "flite=0", "flite=-1", "flite=many", "flite,", "flite=inf"]
)
def test_what_is_no_choice_is_named(text: str) -> None:
    with pytest.raises(CorpusError, match="the synthesisers are flite, festival, espeak-ng"):
        parse_voices(text)

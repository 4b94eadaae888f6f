"""Who speaks: the synthesisers by name, and the choice among them and their voices."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from asr.errors import CorpusError
from training.synthesis.espeak import Espeak
from training.synthesis.festival import Festival
from training.synthesis.flite import Flite
from training.synthesis.speech import Synthesizer

SYNTHESIZERS: dict[str, Synthesizer] = {
    synthesizer.name: synthesizer for synthesizer in (Flite(), Festival(), Espeak())
}


@dataclass(frozen=True)
class VoiceGroup:
    """Voices of one synthesiser, each of which speaks as often as the others."""

    synthesizer: str
    voices: tuple[str, ...]
    share: float = 1.0  # of the utterances, beside that of other groups


FLITE = VoiceGroup("flite", Flite.voices)


def parse_voices(text: str) -> tuple[VoiceGroup, ...]:
    """`espeak-ng=60,festival=30,flite:slt=10`: synthesisers or voices of them, and their shares.

    A share that is left out is 1. Raises CorpusError for a name that isn't a synthesiser's.
    """
    groups = []
    for item in text.split(","):
        who, _, share_text = item.partition("=")
        name, _, voice = who.strip().partition(":")
        try:
            share = float(share_text or "1")
        except ValueError:
            share = math.nan
        if name not in SYNTHESIZERS or not 0 < share < math.inf:
            raise CorpusError(
                f"got {item!r} among the voices; expected SYNTHESIZER or SYNTHESIZER:VOICE, and "
                f"perhaps =SHARE, above 0; the synthesisers are {', '.join(SYNTHESIZERS)}"
            )
        groups.append(VoiceGroup(name, (voice,) if voice else SYNTHESIZERS[name].voices, share))
    return tuple(groups)


def require(groups: Sequence[VoiceGroup]) -> None:
    """Raise CorpusError unless all that is to speak is installed."""
    for group in groups:
        SYNTHESIZERS[group.synthesizer].require(group.voices)


def describe(groups: Sequence[VoiceGroup]) -> list[Any]:
    """What a corpus remembers of them: of flite alone the voices, as when there was no other."""
    if len(groups) == 1 and groups[0].synthesizer == "flite":
        return list(groups[0].voices)
    return [asdict(group) | {"voices": list(group.voices)} for group in groups]

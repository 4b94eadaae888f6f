"""Synthetic speech, whose phones or words come with exact times.

From scratch, a transducer sees many hours of speech before it emits anything. An encoder that was
first taught frame-wise phone classification starts at once, and a synthesiser knows where each of
its phones ends. Later, many voices are what synthetic speech adds to little real speech.

`synthesize` makes a corpus with flite (80 times faster than real time on one core), festival and
espeak-ng, and can be killed and run again; `frame_labels` turns a row's phones into targets for the
encoder's frames; `pronounce` gives the phones of any transcript, for phone targets on real speech.

FLAC rather than Opus: encoding Opus takes longer than the synthesis itself (28 against 80 times
real time; FLAC 2000), and every epoch decodes the files again. Opus takes a fifth of the room.
Its recordings sound the same when they are made again, but the files differ: Ogg streams are
numbered at random.
"""

from training.synthesis.corpus import SynthesisReport, SynthesisSettings, synthesize
from training.synthesis.flite import pronounce
from training.synthesis.phones import PHONES, SILENCE, Phones, frame_labels
from training.synthesis.speech import SynthesizerRefusal
from training.synthesis.voices import VoiceGroup, parse_voices

__all__ = [
    "PHONES",
    "SILENCE",
    "Phones",
    "SynthesisReport",
    "SynthesisSettings",
    "SynthesizerRefusal",
    "VoiceGroup",
    "frame_labels",
    "parse_voices",
    "pronounce",
    "synthesize",
]

"""festival: three American voices that aren't flite's, with the times of their phones and words.

Taylor, Black and Caley, "The architecture of the Festival speech synthesis system", 1998;
https://www.cstr.ed.ac.uk/projects/festival. Two voices join diphones; the third is a hidden Markov
model, four times slower, and keeps its own pitch. Starting takes festival as long as a sentence
does, so a process speaks several.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from training.synthesis.phones import PHONES
from training.synthesis.speech import (
    Speech,
    SynthesizerRefusal,
    Utterance,
    end_with_audio,
    match_words,
    read_wav,
    run_program,
)

VOICES: tuple[str, ...] = ("kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts")

_START_TIMEOUT_S, _TIMEOUT_S = 60, 30  # of a process, and of each of its utterances
_INSTALL = "`apt install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts`"

# (earshot_speak NAME VOICE TEXT STRETCH PITCH): NAME.wav, NAME.segments, and then
# NAME.tokens, a line for each part of the text between spaces: where its words begin, where each of
# them ends, and its name. A possessive is a word without phones of its own: its times are 0.
_SCHEME = """
(defvar hts_engine_params nil)
(define (earshot_speak name voice text stretch pitch)
  (eval (list (intern (string-append "voice_" voice))))
  (Parameter.set 'Duration_Stretch (* stretch (Parameter.get 'Duration_Stretch)))
  (set! int_lr_params
    (mapcar
      (lambda (feature)
        (if (member (car feature) '(target_f0_mean target_f0_std))
            (list (car feature) (* pitch (cadr feature)))
            feature))
      int_lr_params))
  (set! hts_engine_params
    (cons (list "-r" (/ 1.0 stretch)) hts_engine_params))
  (let ((utt (SynthText text)))
    (utt.save.wave utt (string-append name ".wav") 'riff)
    (utt.save.segs utt (string-append name ".segments"))
    (let ((file (fopen (string-append name ".tokens") "w")) (token (utt.relation.first utt 'Token)))
      (while token
        (let ((words (item.daughters token)))
          (if words (format file "%f" (item.feat (car words) "R:Word.word_start")))
          (mapcar (lambda (word) (format file " %f" (item.feat word "R:Word.word_end"))) words)
          (format file " %s\\n" (item.name token)))
        (set! token (item.next token)))
      (fclose file))))
"""


class Festival:
    """The synthesiser festival: a process for several utterances."""

    name = "festival"
    voices = VOICES
    batch = 10

    def require(self, voices: Sequence[str]) -> None:
        """Raise CorpusError unless festival is installed and has all of `voices`."""
        listed = _festival('(mapcar (lambda (name) (format t "%s\\n" name)) (voice.list))', 0)
        available = listed.decode(errors="replace").split()
        if unknown := [voice for voice in voices if voice not in available]:
            raise CorpusError(
                f"festival has no voice {unknown}; it has {', '.join(available) or 'none'}. "
                f"Install what is missing: {_INSTALL}"
            )

    def speak(self, utterances: Sequence[Utterance]) -> list[Speech | SynthesizerRefusal]:
        """Speak utterances, with the times of their phones and words.

        If festival crashes, all that it has not spoken by then is asked again, one by one.
        """
        with tempfile.TemporaryDirectory(prefix="synthesis-") as scratch:
            folder = Path(scratch)
            script = "\n".join(_commands(utterances, folder))
            failure: SynthesizerRefusal | None = None
            try:
                _festival(script, len(utterances))
            except SynthesizerRefusal as refusal:
                failure = refusal
            missing = failure or SynthesizerRefusal("festival did not speak it, and said not why")
            spoken = [_read(utterance, folder, missing) for utterance in utterances]
        if failure is None or len(utterances) == 1:
            return spoken
        return [
            self.speak([utterance])[0] if speech is failure else speech
            for utterance, speech in zip(utterances, spoken, strict=True)
        ]


def _festival(script: str, utterances: int) -> bytes:
    timeout_s = _START_TIMEOUT_S + _TIMEOUT_S * utterances
    return run_program(["festival", "--pipe"], _INSTALL, timeout_s, script.encode())


def _commands(utterances: Sequence[Utterance], folder: Path) -> Iterator[str]:
    yield _SCHEME
    for utterance in utterances:
        arguments: list[str | float] = [
            *(str(folder / str(utterance.index)), utterance.voice, utterance.sentence.spoken),
            *(utterance.stretch, utterance.pitch),
        ]
        yield f"(earshot_speak {' '.join(map(_literal, arguments))})"


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value:.4f}"


def _read(
    utterance: Utterance, folder: Path, missing: SynthesizerRefusal
) -> Speech | SynthesizerRefusal:
    """An utterance as festival left it in `folder`; `missing` if it has not finished it."""
    stem = folder / str(utterance.index)
    try:
        # Read first: its last line is the last thing that festival wrote.
        tokens = stem.with_suffix(".tokens").read_text(encoding="utf-8", errors="replace")
        segments = stem.with_suffix(".segments").read_text(encoding="utf-8")
        samples = read_wav(stem.with_suffix(".wav"), utterance.voice)
    except FileNotFoundError:
        return missing
    except SynthesizerRefusal as refusal:
        return refusal
    try:
        phones = end_with_audio(_parse_segments(segments), len(samples) / SAMPLE_RATE)
    except SynthesizerRefusal as refusal:
        return refusal
    return Speech(
        samples,
        phones=phones if all(phone in PHONES for phone, _ in phones) else None,
        words=match_words(utterance.sentence, [*map(_token_times, tokens.splitlines())]),
    )


def _parse_segments(text: str) -> list[tuple[str, float]]:
    """Lines `0.2200 100 pau` after one with `#`, as `utt.save.segs` writes them."""
    fields = [line.split() for line in text.splitlines() if line.strip() not in ("#", "")]
    return [(phone, float(end)) for end, _, phone in fields]


def _token_times(line: str) -> tuple[float, float] | None:
    """`START END ... NAME` of a token's words; None if none of them has phones."""
    *times, _ = line.split()
    start, end = float(times[0]) if times else 0.0, max(map(float, times), default=0.0)
    return (start, end) if start < end else None

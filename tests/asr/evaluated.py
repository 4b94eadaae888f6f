"""What an evaluation gives, that nobody measured: for what is made of it."""

from pathlib import Path

from asr.evaluation.accuracy.scoring import UtteranceScore
from asr.evaluation.corpora.manifest import Utterance, Value
from asr.evaluation.envelope import EvaluationEnvelope, Machine, ModelIdentity
from asr.evaluation.recognition import Recognized
from asr.results import Word

WORD_S = 0.5

ENVELOPE = EvaluationEnvelope(
    version="1.2.3",
    commit=None,
    command="asr eval a.jsonl",
    date="2026-01-01T00:00:00+00:00",
    machine=Machine("Linux-x86_64", "a processor", 2, 2),
    engine="onnxruntime 1.0",
    model=ModelIdentity("tiny", "ab12", 345),
    precision="int8",
    chunk_ms=320,
    search="greedy",
    manifests=("a.jsonl",),
    split="dev",
    limit=None,
    jobs=1,
)


def scored(
    name: str, reference: str, hypothesis: str, speaker: str | None = None, **fields: Value
) -> UtteranceScore:
    """An utterance whose recognised words take half a second each."""
    utterance = Utterance(name, Path(f"{name}.wav"), reference, 1.0, speaker, None, fields=fields)
    words = tuple(
        Word(text, WORD_S * index, WORD_S * (index + 1), 0.75)
        for index, text in enumerate(hypothesis.split())
    )
    audio_s = WORD_S * max(len(words), 1)
    return UtteranceScore.of(utterance, Recognized(hypothesis, words, audio_s, 0.1, 50.0))

"""Sentences that are read go through the upper blocks as if they had been heard."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import training.pronunciation
import training.text_injection
from asr.errors import AsrError, CorpusError
from tests.training.test_transducer_task import batch
from training.dataset import Batch
from training.model import EncoderOutput, ModelConfig, Transducer, initial_state
from training.pronunciation import Pronunciations
from training.recipe import LossConfig, ScheduleConfig, StreamingTrainingConfig
from training.task import StepClock
from training.text_injection import (
    LONGEST_UNIT,
    UNITS_OF_PAIR,
    PhoneUnits,
    ReadText,
    SpokenText,
    TextInjection,
    read_text,
)
from training.transducer_task import TransducerTask

CONFIG = ModelConfig(vocab_size=30, dim=32, layers=3, conv_kernel=7, phone_layers=2)
R, E, D, B = 1, 2, 3, 4


class Numbered:
    """Frames that tell where they come from: their number, and their phone at the peak."""

    def __init__(self, first: int, path: list[int]) -> None:
        numbers = torch.arange(first, first + len(path), dtype=torch.float32)
        self.phonetic = numbers[:, None].expand(-1, 2)
        peaks = torch.nn.functional.one_hot(torch.tensor(path), 41).float()
        self.log_probs = (20 * peaks).log_softmax(dim=-1)
        self.phones = [phone for phone in path if phone]


def numbers(frames: np.ndarray) -> list[int]:
    return frames[:, 0].astype(int).tolist()


def units_of(*utterances: Numbered) -> PhoneUnits:
    units = PhoneUnits()
    for each in utterances:
        units.add(each.phonetic, each.log_probs, each.phones)
    return units


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_phone_lasts_until_the_next_is_heard() -> None:
    units = units_of(Numbered(100, [0, 0, R, 0, E, D, 0, 0]))
    said = units.say([R, E, D], draws())
    assert said is not None
    assert numbers(said) == [100, 101, 102, 103, 104, 105, 106, 107], "what was heard, again"
    said = units.say([D, R], draws())
    assert said is not None
    assert numbers(said) == [100, 101, 105, 106, 107, 102, 103]


def test_pauses_are_cut() -> None:
    units = units_of(Numbered(0, [*[0] * 50, R, *[0] * 50]))
    said = units.say([R], draws())
    assert said is not None
    assert numbers(said) == [*range(50 - LONGEST_UNIT, 50), *range(50, 50 + LONGEST_UNIT)]


def test_a_phone_is_taken_from_where_it_followed_the_same_one() -> None:
    units = units_of(Numbered(0, [R, E, D]), Numbered(100, [D, E, R]))
    for seed in range(20):
        said = units.say([R, E], draws(seed))
        assert said is not None
        assert numbers(said)[-1] == 1, "not 101, which followed D"
    seen = set()
    for seed in range(20):
        said = units.say([B, E], draws(seed)) if seed % 2 else units.say([E, E], draws(seed))
        seen.add(None if said is None else numbers(said)[-1])
    assert seen == {None, 1, 101}, "B was never heard; E after E was not, so it is any E"


def test_what_was_heard_lately_is_kept() -> None:
    many = [Numbered(number, [R, E]) for number in range(0, 200, 2)]
    units = units_of(*many)
    ends = {
        numbers(said)[-1] for n in range(400) if (said := units.say([R, E], draws(n))) is not None
    }
    assert ends == set(range(201 - 2 * UNITS_OF_PAIR, 200, 2))


def test_a_recording_too_short_for_its_phones_is_passed_over() -> None:
    short = Numbered(0, [R, E])
    units = PhoneUnits()
    units.add(short.phonetic, short.log_probs, [R, E, D])
    units.add(short.phonetic, short.log_probs, [])  # flite can't say it
    assert units.say([R], draws()) is None


def heard(path: list[int]) -> tuple[EncoderOutput, Tensor, Batch]:
    """A batch of two: the second is half as long, and padded."""
    full, half = Numbered(0, path), Numbered(1000, path[: len(path) // 2])
    padding = len(path) - len(half.phonetic)
    phonetic = torch.stack(
        [full.phonetic, torch.nn.functional.pad(half.phonetic, (0, 0, 0, padding), value=9e9)]
    )
    log_probs = torch.stack(
        [full.log_probs, torch.nn.functional.pad(half.log_probs, (0, 0, 0, padding))]
    )
    lengths = torch.tensor([len(path), len(half.phonetic)])
    state = initial_state(CONFIG, 2, left_frames=0)
    return (
        EncoderOutput(phonetic, lengths, state, phonetic),
        log_probs,
        batch([full.phones, half.phones]),
    )


def test_as_much_is_said_as_is_asked_for() -> None:
    text = ReadText([[7, 8]] * 300, [[R, E, D]] * 300)
    injection = TextInjection(text, share=0.5)
    assert injection.draw(100, draws()) is None, "nothing is heard yet"
    injection.hear(*heard([0, R, 0, E, 0, D, 0, 0]))
    spoken = injection.draw(100, draws())
    assert spoken is not None
    assert 50 <= int(spoken.lengths.sum()) <= 50 + int(spoken.lengths.max())
    assert spoken.phonetic.size(1) % 4 == 0, "few shapes, as of recordings"
    assert float(spoken.phonetic.max()) < 9e9, "no padding of recordings"
    assert spoken.targets.tolist() == [[7, 8]] * len(spoken.lengths)
    again = injection.draw(100, draws())
    assert again is not None and torch.equal(again.phonetic, spoken.phonetic)


def test_sentences_with_too_many_tokens_or_unheard_phones_are_left_out() -> None:
    text = ReadText([[7] * 30, [9], [8]], [[R, E, D], [B], [R, E]])
    injection = TextInjection(text, share=1.0)
    injection.hear(*heard([R, 0, E, 0, D, 0]))
    for seed in range(10):
        spoken = injection.draw(10_000, draws(seed))
        assert spoken is not None
        assert spoken.targets.tolist() == [[8]]


def task(injection: TextInjection | None) -> TransducerTask:
    torch.manual_seed(0)
    return TransducerTask(
        Transducer(CONFIG).eval(),
        None,  # type: ignore[arg-type]  # only validation needs the tokenizer
        ScheduleConfig(hours=1),
        LossConfig(phone_weight=0.3),
        StreamingTrainingConfig(),
        StepClock(60.0),
        seed=1,
        text=injection,
    )


class OneSentence(TextInjection):
    """Says the same frames whatever was heard."""

    def draw(self, frames: int, generator: np.random.Generator) -> SpokenText | None:
        phonetic = torch.randn(1, 12, CONFIG.dim, generator=torch.Generator().manual_seed(0))
        return SpokenText(phonetic, torch.tensor([12]), torch.tensor([[7, 8]]), torch.tensor([2]))


STREAMING = torch.tensor([8, 16]), torch.tensor([64, 64])


def test_text_teaches_the_upper_blocks_alone() -> None:
    injection = OneSentence(ReadText([[7, 8]], [[R, E]]), 0.5)
    taught = task(injection)
    spoken = injection.draw(0, draws())
    assert spoken is not None
    taught._text_losses(spoken, *STREAMING)[0].backward()
    moved = {
        name
        for name, weight in taught.model.named_parameters()
        if weight.grad is not None and weight.grad.abs().max() > 0
    }
    assert any(name.startswith("encoder.blocks.2.") for name in moved)
    assert {"predictor.embedding.weight", "joiner.labels.weight", "ctc.weight"} <= moved
    lower = ("encoder.subsampling.", "encoder.blocks.0.", "encoder.blocks.1.", "phones.")
    assert not [name for name in moved if name.startswith(lower)]


@torch.no_grad()
def test_a_token_of_text_counts_as_one_that_was_heard() -> None:
    injection = OneSentence(ReadText([[7, 8]], [[R, E]]), 0.5)
    recordings = batch([[1, 2], [3, 4, 5]])
    total, weight, parts = task(injection).losses(recordings, *STREAMING)
    without, same_weight, _ = task(None).losses(recordings, *STREAMING)
    spoken = injection.draw(0, draws())
    assert spoken is not None
    text, text_parts = task(None)._text_losses(spoken, *STREAMING)
    torch.testing.assert_close(total, without + text)
    assert weight == same_weight
    torch.testing.assert_close(parts["text"] / weight, text_parts["pruned"] / 2)


@pytest.fixture
def said_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.pronunciation, "pronounce", lambda text: ["b"] * len(text))


class Words:
    """A token a word."""

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


def test_sentences_are_read_in_the_order_of_their_phones(
    tmp_path: Path, said_by_letters: None
) -> None:
    novel = tmp_path / "novel.txt"
    novel.write_text("The cat sat on it. Nobody saw it there. It was only me.\n")
    pronunciations = Pronunciations(tmp_path / "phones.jsonl")
    text = read_text(novel, 10, 1, Words(), pronunciations)  # type: ignore[arg-type]
    assert text.tokens == [[2, 3, 4, 2], [3, 3, 3, 2, 2], [6, 3, 2, 5]]
    assert [len(phones) for phones in text.phones] == [14, 17, 19]
    assert len(read_text(novel, 2, 1, Words(), pronunciations)) == 2  # type: ignore[arg-type]


def test_a_text_without_sentences_is_named(tmp_path: Path, said_by_letters: None) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("1 2 3 4\n")
    pronunciations = Pronunciations(tmp_path / "phones.jsonl")
    with pytest.raises(CorpusError, match=r"numbers.txt: no sentence to read; expected English"):
        read_text(numbers, 10, 1, Words(), pronunciations)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=r"none.txt: not readable as text"):
        read_text(tmp_path / "none.txt", 10, 1, Words(), pronunciations)  # type: ignore[arg-type]


def test_without_an_aligner_no_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise AsrError("forced alignment needs torchaudio")

    monkeypatch.setattr(training.text_injection, "require_aligner", missing)
    with pytest.raises(AsrError, match="needs torchaudio"):
        TextInjection(ReadText([[7]], [[R]]), 0.5)

"""Sentences that are read go through the upper blocks as if they had been heard."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import training.pronunciation
from asr.errors import CorpusError
from tests.training.test_transducer_task import batch, transducer_task
from training.corpus import Rejections
from training.dataset import Batch
from training.model import EncoderOutput, ModelConfig, initial_state
from training.pronunciation import Pronunciations
from training.synthesis import SynthesizerRefusal
from training.text_injection import (
    LIFETIME,
    LONGEST_UNIT,
    MOST_UNITS,
    PhoneticBatch,
    PhoneUnits,
    Sentences,
    TextInjection,
    draw_texts,
    pronounced,
)
from training.transducer_task import TransducerTask

pytest.importorskip("torchaudio")

CONFIG = ModelConfig(vocab_size=30, dim=32, layers=3, conv_kernel=7, phone_layers=2)
R, E, D, B = 1, 2, 3, 4


class Utterance:
    """Frames that hold their number; a phone, or none, is what each of them is taken for."""

    def __init__(self, first: int, path: list[int], certainty: float = 20.0) -> None:
        numbers = torch.arange(first, first + len(path), dtype=torch.float32)
        self.frames = numbers[:, None].expand(-1, 2)
        peaks = functional.one_hot(torch.tensor(path), 41).float()
        self.log_probs = (certainty * peaks).log_softmax(dim=-1)
        self.phones = [phone for phone in path if phone]

    def add_to(self, units: PhoneUnits) -> None:
        units.add(self.frames.numpy(), self.log_probs, self.phones)


def units_of(*utterances: Utterance) -> PhoneUnits:
    units = PhoneUnits()
    for each in utterances:
        each.add_to(units)
    return units


def said(units: PhoneUnits, phones: list[int], seed: int = 0) -> list[int] | None:
    """The numbers of the frames that say these phones."""
    frames = units.concatenate(phones, np.random.default_rng(seed))
    return None if frames is None else frames[:, 0].astype(int).tolist()


def all_that_end(units: PhoneUnits, phones: list[int]) -> set[int]:
    """The last frames that these phones are ever said with."""
    return {numbers[-1] for seed in range(400) if (numbers := said(units, phones, seed))}


def test_a_phone_lasts_until_the_next_is_heard() -> None:
    units = units_of(Utterance(100, [0, 0, R, 0, E, D, 0, 0]))
    assert said(units, [R, E, D]) == [100, 101, 102, 103, 104, 105, 106, 107], "as it was"
    assert said(units, [D, R]) == [100, 101, 105, 106, 107, 102, 103]


def test_pauses_are_cut() -> None:
    units = units_of(Utterance(0, [*[0] * 50, R, *[0] * 50]))
    assert said(units, [R]) == [*range(50 - LONGEST_UNIT, 50), *range(50, 50 + LONGEST_UNIT)]


def test_a_phone_is_taken_from_between_the_same_two_or_before_the_same_one() -> None:
    units = units_of(Utterance(0, [R, E, D]), Utterance(100, [B, E, D]), Utterance(200, [R, E, B]))
    assert {said(units, [R, E, D], seed)[1] for seed in range(50)} == {1}  # type: ignore[index]
    assert {said(units, [D, E, D], seed)[1] for seed in range(50)} == {1, 101}  # type: ignore[index]
    assert {said(units, [R, E, R], seed)[1] for seed in range(50)} == {1, 101, 201}  # type: ignore[index]


def test_what_was_never_heard_can_not_be_said() -> None:
    units = units_of(Utterance(0, [R, E]))
    assert said(units, [R, D]) is None
    assert said(PhoneUnits(), [R]) is None


def test_the_last_units_are_kept_and_not_for_ever() -> None:
    units = units_of(*(Utterance(2 * number, [R, E]) for number in range(100)))
    _, of_pair, of_triple = MOST_UNITS
    assert all_that_end(units, [R, E]) == set(range(201 - 2 * of_triple, 200, 2))
    assert all_that_end(units, [E, E]) == set(range(201 - 2 * of_pair, 200, 2)), "before a pause"
    for _ in range(LIFETIME - 1):
        units.begin_batch()
    assert all_that_end(units, [R, E])
    Utterance(1000, [R]).add_to(units)
    units.begin_batch()
    assert said(units, [R, E]) is None, "E is too long ago"
    assert said(units, [R]) == [1000]


def test_of_a_phone_so_many_units_are_kept() -> None:
    units = units_of(
        *(Utterance(10 * number, [R, 5 + number % 36]) for number in range(3 * MOST_UNITS[0]))
    )
    found = {said(units, [R, R], seed)[0] for seed in range(3000)}  # type: ignore[index]
    assert len(found) == MOST_UNITS[0]


def test_units_do_not_hold_their_recordings() -> None:
    frames = np.zeros((100, 2), np.float32)
    path = [0] * 100
    path[50] = R
    units = PhoneUnits()
    units.add(frames, Utterance(0, path).log_probs, [R])
    frames[:] = 7
    found = units.concatenate([R], np.random.default_rng(0))
    assert found is not None and not found.any()


def test_a_recording_that_does_not_say_its_phones_is_passed_over() -> None:
    short, unsure = Utterance(0, [R, E]), Utterance(0, [R, E, 0, 0], certainty=0.1)
    units = PhoneUnits()
    units.add(short.frames.numpy(), short.log_probs, [R, E, D])  # they don't fit
    units.add(short.frames.numpy(), short.log_probs, [])  # flite can't say it
    units.add(short.frames.numpy(), short.log_probs, [D, R])  # something else is said
    units.add(short.frames.numpy(), short.log_probs * torch.nan, [R, E])
    unsure.add_to(units)  # by a head that has learned nothing
    assert said(units, [R]) is None


def heard(path: list[int]) -> tuple[EncoderOutput, Tensor, Batch]:
    """A batch of two: the second says the first half alone; its padding says other phones."""
    full, half = Utterance(0, path), Utterance(1000, path[: len(path) // 2])
    padding = len(path) - len(half.frames)
    frames = torch.stack([full.frames, functional.pad(half.frames, (0, 0, 0, padding), value=9e9)])
    log_probs = torch.stack(
        [full.log_probs, torch.cat([half.log_probs, full.log_probs[-padding:]])]
    )
    lengths = torch.tensor([len(path), len(half.frames)])
    encoded = EncoderOutput(frames, lengths, initial_state(CONFIG, 2, left_frames=0), frames)
    return encoded, log_probs, batch([full.phones, half.phones])


def injection(share: float, *sentences: tuple[list[int], list[int]]) -> TextInjection:
    """Of sentences with these tokens and phones, after a batch in which R, E and D are said."""
    tokens, phones = ([list(each) for each in part] for part in zip(*sentences, strict=True))
    made = TextInjection(Sentences(tokens, phones), share)
    made.collect(*heard([0, R, 0, E, 0, D, 0, 0]))
    return made


def draw(injection: TextInjection, frames: int, seed: int = 0) -> PhoneticBatch:
    drawn = injection.draw(frames, np.random.default_rng(seed))
    assert drawn is not None
    return drawn


def test_as_much_is_said_as_is_asked_for() -> None:
    read = injection(0.5, *[([7, 8], [R, E, D])] * 300)
    drawn = draw(read, 100)
    assert 50 <= int(drawn.lengths.sum()) <= 50 + int(drawn.lengths.max())
    assert drawn.frames.size(1) % 4 == 0, "few shapes, as of recordings"
    assert float(drawn.frames.max()) < 9e9, "no padding of recordings"
    assert drawn.targets.tolist() == [[7, 8]] * len(drawn.lengths)
    assert torch.equal(draw(read, 100).frames, drawn.frames), "the same draws, the same sentences"
    assert int(draw(read, 4000).lengths.sum()) >= 2000, "of more sentences than are of like length"


def test_all_sentences_are_read_and_those_of_like_length_together() -> None:
    read = injection(1.0, *[([number], [R] * (1 + number // 50)) for number in range(3000)])
    drawn = [draw(read, 60, seed) for seed in range(300)]
    numbers = [each.targets.flatten().tolist() for each in drawn]
    assert all(max(each) - min(each) <= 300 for each in numbers)
    flat = [number for each in numbers for number in each]
    assert min(flat) < 300 and max(flat) > 2700


def test_nothing_is_said_before_there_are_phones() -> None:
    read = TextInjection(Sentences([[7]], [[R]]), 0.5)
    assert read.draw(100, np.random.default_rng(0)) is None


def test_sentences_with_too_many_tokens_or_unheard_phones_are_left_out() -> None:
    # R between two pauses is said in 2 frames, after a pause of 1.
    read = injection(1.0, ([7] * 3, [R]), ([9], [B]), ([8] * 2, [R]))
    for seed in range(10):
        drawn = draw(read, 10_000, seed)
        assert drawn.targets.tolist() == [[8, 8]]
        assert drawn.lengths.tolist() == [3]


class OneSentence(TextInjection):
    """Says the same frames whatever was heard."""

    def __init__(self) -> None:
        super().__init__(Sentences([[7, 8]], [[R, E]]), 0.5)
        self.asked: list[tuple[int, float]] = []  # frames, and the first number drawn

    def draw(self, frames: int, generator: np.random.Generator) -> PhoneticBatch | None:
        self.asked.append((frames, generator.random()))
        said = torch.randn(1, 24, CONFIG.dim, generator=torch.Generator().manual_seed(0))
        return PhoneticBatch(said, torch.tensor([24]), torch.tensor([[7, 8]]), torch.tensor([2]))


def task(text: TextInjection | None) -> TransducerTask:
    return transducer_task(CONFIG, text)


STREAMING = torch.tensor([8, 16]), torch.tensor([64, 64])


def test_text_teaches_the_upper_blocks_alone() -> None:
    taught = task(None)
    taught._text_losses(draw(OneSentence(), 0), *STREAMING)[0].backward()
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
    recordings = batch([[1, 2], [3, 4, 5]])
    total, weight, parts = task(OneSentence()).losses(recordings, *STREAMING)
    without, same_weight, _ = task(None).losses(recordings, *STREAMING)
    text, text_parts = task(None)._text_losses(draw(OneSentence(), 0), *STREAMING)
    torch.testing.assert_close(total, without + text)
    assert weight == same_weight
    torch.testing.assert_close(parts["text"] / weight, text_parts["pruned"] / 2)


@torch.no_grad()
def test_a_sentence_streams_as_a_recording_does() -> None:
    model, sentence = task(None), draw(OneSentence(), 0)
    small, large = (
        model._text_losses(sentence, torch.tensor([chunk]), torch.tensor([64]))[0]
        for chunk in (4, 24)
    )
    assert small != large


@torch.no_grad()
def test_each_step_reads_other_sentences_of_as_many_frames_as_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = OneSentence()
    reader = task(one)
    half = replace(batch([[1, 2], [3, 4, 5]]), feature_lengths=torch.tensor([103, 51]))
    for step, rank in ((0, 0), (1, 0), (0, 1), (0, 0)):
        monkeypatch.setattr(TransducerTask, "global_step", step)
        monkeypatch.setattr(TransducerTask, "global_rank", rank)
        reader.losses(half, *STREAMING)
    assert [frames for frames, _ in one.asked] == [25 + 12] * 4
    first, second, other, again = (number for _, number in one.asked)
    assert len({first, second, other}) == 3 and first == again


@pytest.fixture
def said_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    def pronounce(text: str) -> list[str]:
        if text.startswith("nobody"):
            raise SynthesizerRefusal("flite failed with status 1")
        return ["b"] * len(text)

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)


class LengthsOfWords:
    """Stands for a tokenizer."""

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


def test_sentences_are_read_in_the_order_of_their_phones(
    tmp_path: Path, said_by_letters: None
) -> None:
    novel = tmp_path / "novel.txt"
    novel.write_text("Nobody knows the rest. The cat sat on it again. It was only me.\n")
    texts = draw_texts(novel, 10, seed=1)
    assert sorted(texts) == ["it was only me", "nobody knows the rest", "the cat sat on it again"]
    assert len(draw_texts(novel, 2, seed=1)) == 2
    pronunciations, rejections = Pronunciations(tmp_path / "phones.jsonl"), Rejections()
    found = pronounced(texts, LengthsOfWords(), pronunciations, rejections)  # type: ignore[arg-type]
    assert found.tokens == [[2, 3, 4, 2], [3, 3, 3, 2, 2, 5]]
    assert [len(phones) for phones in found.phones] == [14, 23]
    assert [*rejections.lines()] == [
        "skipped 1 (text only: flite can't say it), such as nobody knows the rest"
    ]


def test_a_text_without_sentences_is_named(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("1 2 3 4\n")
    with pytest.raises(CorpusError, match=r"numbers.txt: no sentence to read; expected English"):
        draw_texts(numbers, 10, seed=1)
    with pytest.raises(CorpusError, match=r"none.txt: not readable as text"):
        draw_texts(tmp_path / "none.txt", 10, seed=1)

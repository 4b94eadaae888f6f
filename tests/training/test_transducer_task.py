"""The loss of a step is made of what is known of its utterances."""

from dataclasses import replace

import pytest
import torch

from training.dataset import Batch
from training.model import ModelConfig, Transducer
from training.recipe import LossConfig, ScheduleConfig, StreamingTrainingConfig
from training.streaming_draw import WHOLE
from training.task import StepClock
from training.text_injection import TextInjection
from training.transducer_task import FRAMES_PER_TOKEN, TransducerTask

CONFIG = ModelConfig(vocab_size=30, dim=32, layers=1, conv_kernel=7)


WHOLE_UTTERANCES = torch.full((2,), WHOLE), torch.full((2,), WHOLE)


def transducer_task(
    config: ModelConfig = CONFIG, text: TextInjection | None = None
) -> TransducerTask:
    torch.manual_seed(0)
    return TransducerTask(
        Transducer(config).eval(),
        None,  # type: ignore[arg-type]  # only validation needs the tokenizer
        ScheduleConfig(hours=1),
        LossConfig(phone_weight=1.0),
        StreamingTrainingConfig(full_probability=1.0),
        StepClock(60.0),
        seed=1,
        text=text,
    )


def phone_loss(batch: Batch) -> float:
    with torch.no_grad():
        return float(transducer_task().losses(batch, *WHOLE_UTTERANCES)[2]["phones"])


def batch(phones: list[list[int]]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    padded = [torch.tensor(ids, dtype=torch.int64) for ids in phones]
    return Batch(
        ids=["a", "b"],
        features=torch.randn(2, 103, 80, generator=generator),
        feature_lengths=torch.tensor([103, 103]),
        targets=torch.tensor([[3, 4], [5, 6]]),
        target_lengths=torch.tensor([2, 2]),
        phones=torch.nn.utils.rnn.pad_sequence(padded, batch_first=True),
        phone_lengths=torch.tensor([len(ids) for ids in phones]),
    )


def test_an_utterance_without_phones_is_unknown_and_not_silent() -> None:
    both, second = batch([[1, 2], [3, 4, 5]]), batch([[], [3, 4, 5]])
    assert 0 < phone_loss(second) < phone_loss(both)
    assert phone_loss(second) + phone_loss(batch([[1, 2], []])) == pytest.approx(phone_loss(both))
    assert phone_loss(batch([[], []])) == 0.0


def test_two_views_are_compared_frame_by_frame() -> None:
    task = transducer_task()
    task.loss = replace(task.loss, consistency_weight=0.5)
    views = batch([[1, 2], [1, 2]])
    total, _, parts = task.losses(views, *WHOLE_UTTERANCES)
    assert parts["consistency"] > 0.1
    task.loss = replace(task.loss, consistency_weight=0.0)
    without, _, _ = task.losses(views, *WHOLE_UTTERANCES)
    assert (total - without).item() == pytest.approx(0.5 * parts["consistency"].item(), rel=1e-3)


def test_a_batch_of_noise_alone_teaches_blanks() -> None:
    task = transducer_task()
    silent = replace(
        batch([[], []]),
        targets=torch.empty(2, 0, dtype=torch.int64),
        target_lengths=torch.tensor([0, 0]),
    )
    total, weight, _ = task.losses(silent, *WHOLE_UTTERANCES)
    assert weight == 2 * (25 // FRAMES_PER_TOKEN), "as much as speech of that length"
    total.backward()
    bias = task.model.joiner.blank.bias
    assert bias.grad is not None and bias.grad < 0  # a step down the gradient makes blanks likelier
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())

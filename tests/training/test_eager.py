"""Eager PyTorch behind the device's stream gives what the model gives."""

from pathlib import Path

import numpy as np
import torch

from training.checkpoint import load_model
from training.decoding import greedy_search
from training.eager import EagerEngine, load

CHECKPOINT = Path("data/model")


def test_it_streams_what_the_model_computes_at_once() -> None:
    model, _ = load_model(CHECKPOINT)
    engine = EagerEngine(model, left_frames=64)
    features = np.random.default_rng(1).normal(-6, 3, (3 * 32 + 3, 80)).astype(np.float32)
    state, parts = engine.initial_state(), []
    for chunk in range(3):
        out, state = engine.encode(features[32 * chunk : 32 * chunk + 35], state)
        parts.append(out)
    with torch.inference_mode():
        at_once = model.encode(torch.from_numpy(features)[None], torch.tensor([99]), 8, 64).frames
        tokens = greedy_search(model, at_once, torch.tensor([24]))
    np.testing.assert_allclose(np.concatenate(parts), at_once[0].numpy(), atol=1e-3)
    context = np.array([[-1, 0]])
    joined = engine.join(np.concatenate(parts), engine.predict(context))
    assert joined.shape == (24, model.config.vocab_size)
    np.testing.assert_allclose(np.exp(joined).sum(axis=1), 1, atol=1e-4)
    assert tokens[0][:1] == [int(row.argmax()) for row in joined if row.argmax()][:1]


def test_it_hears_a_sample() -> None:
    from tests.samples import SAMPLES, read_samples

    loaded = load(str(CHECKPOINT))
    stream = loaded.open()
    (rain,) = [sample for sample in SAMPLES if sample.name == "rain"]
    stream.accept(read_samples(rain))
    assert "the window" in stream.finish().text

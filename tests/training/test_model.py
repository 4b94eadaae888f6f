"""Streaming, offline and training must be the same computation."""

from dataclasses import replace

import pytest
import torch

from training.model import (
    SIZES,
    ModelConfig,
    Transducer,
    initial_state,
    sized,
    subsampled_lengths,
)
from training.streaming_draw import WHOLE
from training.synthesis import PHONES

CONFIG = ModelConfig(vocab_size=30, dim=64, layers=3, conv_kernel=7)
LEFT = 12


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def model(request: pytest.FixtureRequest) -> Transducer:
    torch.manual_seed(0)
    model = Transducer(CONFIG).to(request.param).eval()
    model.set_feature_statistics(torch.randn(80), torch.rand(80) + 0.5)
    return model


def tolerance(model: Transducer) -> float:
    return 1e-9 if model.ctc.weight.dtype == torch.float64 else 1e-4


@torch.no_grad()
def stream(model: Transducer, features: torch.Tensor, chunk: int) -> torch.Tensor:
    """Encode `(1, T, 80)` chunk by chunk; the last chunk may be shorter."""
    state = initial_state(CONFIG, 1, LEFT, like=features)
    left = int(subsampled_lengths(torch.tensor([features.size(1)])))
    start, outputs = 0, []
    while left:
        frames = min(chunk, left)
        out = model.encoder(features[:, start : start + 4 * frames + 3], state)
        outputs.append(out.frames)
        state, start, left = out.state, start + 4 * frames, left - frames
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("chunk", [4, 8, 16])
@torch.no_grad()
def test_a_stream_equals_the_whole_utterance(model: Transducer, chunk: int) -> None:
    # Every length modulo the chunk.
    for length in range(4 * 2 * chunk + 3, 4 * 3 * chunk + 3):
        features = torch.randn(1, length, 80, dtype=model.ctc.weight.dtype)
        whole = model.encode(features, torch.tensor([length]), chunk, LEFT).frames
        assert (stream(model, features, chunk) - whole).abs().max() <= tolerance(model)


@pytest.mark.parametrize("chunk", [4, WHOLE])
@torch.no_grad()
def test_the_upper_blocks_alone_give_what_they_give_in_the_encoder(chunk: int) -> None:
    torch.manual_seed(0)
    model = Transducer(replace(CONFIG, phone_layers=2)).double().eval()
    features = torch.randn(2, 4 * 30 + 3, 80, dtype=torch.float64)
    lengths = torch.tensor([features.size(1), 4 * 13 + 3])
    streaming = torch.tensor([chunk, 8]), torch.tensor([LEFT, LEFT])
    encoded = model.encode(features, lengths, *streaming)
    alone = model.encoder.encode_phonetic(encoded.phonetic, encoded.lengths, *streaming)
    torch.testing.assert_close(alone, encoded.frames)


@torch.no_grad()
def test_only_in_training_branches_are_skipped(model: Transducer) -> None:
    features = torch.randn(64, 4 * 8 + 3, 80, dtype=model.ctc.weight.dtype)[:1].expand(64, -1, -1)
    lengths = torch.tensor([features.size(1)] * 64)
    heard = model.encode(features, lengths).frames
    for block in model.encoder.blocks:
        block.skip_probability = 0.5
    torch.testing.assert_close(model.encode(features, lengths).frames, heard)
    skipped = model.train().encode(features, lengths).frames
    assert not torch.isclose(skipped[0], skipped[1:]).flatten(1).all(dim=1).any(), "each its own"
    block = model.encoder.blocks[0]
    x = torch.randn(2000, 1, CONFIG.dim).to(features)
    mean = block._add(x, torch.ones_like(x)).sub(x).mean()
    assert abs(float(mean) - 1) < 0.1, "as much on average as without"


@torch.no_grad()
def test_coalesced_chunks_equal_single_ones(model: Transducer) -> None:
    features = torch.randn(1, 4 * 32 + 3, 80, dtype=model.ctc.weight.dtype)
    state = initial_state(CONFIG, 1, LEFT, like=features)
    first = model.encoder(features[:, : 4 * 8 + 3], state)
    rest = model.encoder(features[:, 4 * 8 :], first.state, chunk_frames=8, left_frames=LEFT)
    both = torch.cat([first.frames, rest.frames], dim=1)
    assert (both - stream(model, features, 8)).abs().max() <= tolerance(model)


@torch.no_grad()
def test_a_longer_chunk_and_the_past_do_change_the_result(model: Transducer) -> None:
    features = torch.randn(1, 4 * 32 + 3, 80, dtype=model.ctc.weight.dtype)
    lengths = torch.tensor([features.size(1)])
    whole = model.encode(features, lengths).frames
    for chunk, left in ((8, LEFT), (16, LEFT), (8, 1000)):
        other = model.encode(features, lengths, chunk, left).frames
        assert (whole - other).abs().max() > 1e-3, "the mask hides nothing"


@torch.no_grad()
def test_each_utterance_of_a_batch_has_its_own_context(model: Transducer) -> None:
    features = torch.randn(1, 403, 80, dtype=model.ctc.weight.dtype)
    lengths = torch.tensor([403] * 4)
    chunks, lefts = torch.tensor([4, 8, 8, WHOLE]), torch.tensor([LEFT, LEFT, 5, LEFT])
    out = model.encode(features.expand(4, -1, -1), lengths, chunks, lefts).frames
    assert all((out[row] - out[row + 1]).abs().max() > 1e-3 for row in range(3))
    for row in range(3):
        alone = model.encode(features, lengths[:1], int(chunks[row]), int(lefts[row])).frames[0]
        assert (out[row] - alone).abs().max() <= tolerance(model)
    assert (out[3] - model.encode(features, lengths[:1]).frames[0]).abs().max() <= tolerance(model)


@pytest.mark.parametrize("chunk", [None, 8])
@torch.no_grad()
def test_padding_of_a_batch_changes_nothing(model: Transducer, chunk: int | None) -> None:
    lengths = [403, 160, 47, 250]
    utterances = [torch.randn(n, 80, dtype=model.ctc.weight.dtype) for n in lengths]
    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True, padding_value=7.0)
    out = model.encode(padded, torch.tensor(lengths), chunk, LEFT)
    for row, features in enumerate(utterances):
        alone = model.encode(features[None], torch.tensor([len(features)]), chunk, LEFT).frames[0]
        assert out.lengths[row] == len(alone)
        assert (out.frames[row, : len(alone)] - alone).abs().max() <= tolerance(model)


@torch.no_grad()
def test_the_state_of_a_stream_never_grows(model: Transducer) -> None:
    state = initial_state(CONFIG, 2, LEFT, like=model.ctc.weight)
    shapes = [part.shape for part in state]
    for calls in range(1, 6):
        features = torch.randn(2, 4 * 8 + 3, 80, dtype=model.ctc.weight.dtype)
        state = model.encoder(features, state).state
        assert [part.shape for part in state] == shapes
        assert state.processed_frames.tolist() == [32 * calls] * 2
        assert state.conv[0, 0, :, 0].tolist() == [min(8 * calls, LEFT)] * 2


@torch.no_grad()
def test_a_reset_that_keeps_the_caches_goes_on_as_before(model: Transducer) -> None:
    """sherpa-onnx zeroes `processed_frames` at an endpoint and keeps the caches."""
    features = torch.randn(1, 4 * 16 + 3, 80, dtype=model.ctc.weight.dtype)
    state = initial_state(CONFIG, 1, LEFT, like=features)
    state = model.encoder(features[:, : 4 * 8 + 3], state).state
    reset = state._replace(processed_frames=torch.zeros(1, dtype=torch.int64))
    expected = model.encoder(features[:, 4 * 8 :], state).frames
    assert torch.equal(model.encoder(features[:, 4 * 8 :], reset).frames, expected)


@torch.no_grad()
def test_positions_are_exact_far_beyond_the_first_table(model: Transducer) -> None:
    dtype = model.ctc.weight.dtype
    cos, _ = model.encoder.positions(5000)
    exact = torch.cos(torch.tensor(4999.0, dtype=torch.float64)).to(dtype)
    assert abs(cos[4999, 0] - exact) <= (1e-12 if dtype == torch.float64 else 1e-7)


@torch.no_grad()
def test_joiner_scores_are_log_probabilities_and_agree_with_the_arcs(model: Transducer) -> None:
    dtype = model.ctc.weight.dtype
    encoder_out, predicted = (
        torch.randn(2, 5, 256, dtype=dtype),
        torch.randn(2, 5, 256, dtype=dtype),
    )
    targets = torch.randint(1, 30, (2, 5))
    scores = model.joiner(encoder_out, predicted)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 5), atol=1e-5, rtol=0)
    blank, label = model.joiner.arcs(encoder_out, predicted, targets)
    torch.testing.assert_close(blank, scores[..., 0])
    torch.testing.assert_close(label, scores.gather(-1, targets[..., None]).squeeze(-1))


@torch.no_grad()
def test_the_predictor_sees_two_tokens_and_no_more(model: Transducer) -> None:
    first = model.predictor(torch.tensor([[5, 6, 7, 8]]))
    other = model.predictor(torch.tensor([[9, 6, 7, 8]]))
    assert not torch.equal(first[:, 0], other[:, 0])
    assert torch.equal(first[:, 1:], other[:, 1:])


@torch.no_grad()
def test_the_phone_head_hears_the_lower_blocks_alone() -> None:
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=30, dim=64, layers=3, conv_kernel=7, phone_layers=2)
    model = Transducer(config).eval()
    features, lengths = torch.randn(1, 103, 80), torch.tensor([103])
    before = model.encode(features, lengths)
    for weight in model.encoder.blocks[2].parameters():
        weight.add_(1.0)
    after = model.encode(features, lengths)
    assert torch.equal(before.phonetic, after.phonetic)
    assert not torch.equal(before.frames, after.frames)


def test_the_phone_head_has_the_phones_of_the_synthesiser() -> None:
    assert ModelConfig(vocab_size=30).num_phones == len(PHONES)


@torch.no_grad()
def test_quiet_heads_say_nearly_always_blank() -> None:
    model = Transducer(CONFIG)
    model.quiet_heads()
    encoder_out, predicted = torch.randn(50, 256), torch.randn(50, 256)
    for blank in (
        model.joiner(encoder_out, predicted)[:, 0].exp(),
        model.ctc(encoder_out).softmax(-1)[:, 0],
        (model.simple_encoder(encoder_out) + model.simple_predictor(predicted)).softmax(-1)[:, 0],
    ):
        assert (blank - 5 / 6).abs().max() < 0.15


def test_sizes_have_the_parameters_they_claim() -> None:
    millions = {
        size: sum(p.numel() for p in Transducer(sized(size, 257)).parameters()) / 1e6
        for size in SIZES
    }
    assert {size: round(count) for size, count in millions.items()} == {
        "xs": 3,
        "s": 5,
        "m": 9,
        "l": 25,
    }


def test_impossible_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        ModelConfig(vocab_size=30, dim=100)
    with pytest.raises(ValueError, match="odd"):
        ModelConfig(vocab_size=30, conv_kernel=14)
    with pytest.raises(ValueError, match="expected one of xs, s, m, l"):
        sized("xl", 30)

"""One recording before and after each augmentation: to listen to, and as a picture.

Augmentation happens to log-mel features, so what is heard is their inversion: the magnitudes that
give such features, with phases by Griffin and Lim's algorithm (1984). It sounds hoarse, before as
well as after; compare one with the other.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import griffinlim

from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig, Samples
from asr.whole_files import write_whole
from training.acoustics import Acoustics, Frames
from training.augmentation import augment
from training.feature_cache import utterance_features
from training.recipe import AugmentationConfig

_FFT = 512
_GRIFFIN_LIM_ITERATIONS = 32


@dataclass(frozen=True)
class Demonstration:
    """What one kind of augmentation makes of a recording."""

    name: str
    frames: Frames  # (T, 80)


def demonstrate(
    recording: Path, config: AugmentationConfig, acoustics: Acoustics, seed: int
) -> list[Demonstration]:
    """Return the frames of a recording as they are, then each augmentation alone, then all.

    Noise alone is left out: nothing of the recording is in it.

    Each is made as likely as can be, and as `config` draws it otherwise. Raises AudioError for what
    can't be read.
    """
    frames = utterance_features(recording)
    generator = np.random.default_rng(seed)
    ranges = replace(
        AugmentationConfig.none(),
        noise_snr_db=config.noise_snr_db,
        recorded_noise_snr_db=config.recorded_noise_snr_db,
        enclosing_noise_snr_db=config.enclosing_noise_snr_db,
    )
    masks = ("frequency_masks", "frequency_mask_bins", "time_masks_per_10s", "time_mask_frames")
    kinds: dict[str, dict[str, Any]] = {
        "stretch": {"stretch": config.stretch},
        "mel_warp": {"mel_warp": config.mel_warp},
        "noise_floor": {"noise_probability": 1},
        "room": {"room_probability": 1},
        "narrow": {"narrow_probability": 1},
        "silence_cut": {"silence_cut_probability": 1},
        "masks": {name: getattr(config, name) for name in masks},
    }
    if acoustics.noises:
        kinds["recorded_noise"] = {"recorded_noise_probability": 1}
        kinds["enclosing_noise"] = {"enclosing_noise_probability": 1}
    mean = frames.mean(axis=0)

    def made(chosen: AugmentationConfig) -> Frames:
        rate = float(generator.uniform(*chosen.stretch))
        return augment(frames.copy(), rate, chosen, mean, acoustics, generator, generator)

    alone = [Demonstration(name, made(replace(ranges, **kind))) for name, kind in kinds.items()]
    return [Demonstration("original", frames), *alone, Demonstration("as_trained", made(config))]


def write_demonstrations(demonstrations: list[Demonstration], out: Path) -> Path:
    """Write NAME.wav of each and `spectrograms.png` of all into the folder `out`; return that."""
    out.mkdir(parents=True, exist_ok=True)
    for each in demonstrations:
        write_whole(out / f"{each.name}.wav", partial(_write_wav, each.frames))
    picture = out / "spectrograms.png"
    write_whole(picture, lambda path: _draw(demonstrations).savefig(path, format="png", dpi=110))
    return picture


def invert(frames: Frames) -> Samples:
    """Return samples `(n,)` whose features are close to the log-mel frames `(T, 80)`."""
    config = FeatureConfig()
    banks, _ = get_mel_banks(
        config.num_mel_bins,
        _FFT,
        config.sample_rate,
        config.low_hz,
        config.high_hz,
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )
    # The highest frequency has no weight in any band.
    banks = torch.nn.functional.pad(banks, (0, 1)).double()
    power = (torch.from_numpy(frames).double().exp() @ torch.linalg.pinv(banks.T)).clamp(min=0)
    angle = torch.linspace(0, torch.pi, _FFT // 2 + 1, dtype=torch.float64)
    emphasis = (1 - config.preemphasis * torch.exp(-1j * angle)).abs() ** 2
    window = torch.hann_window(int(config.frame_length_ms * SAMPLE_RATE / 1000)).double()
    torch.manual_seed(0)  # of the first phases
    samples = griffinlim(
        (power / emphasis).sqrt().T,
        window,
        _FFT,
        FRAME_SHIFT,
        len(window),
        power=1.0,
        n_iter=_GRIFFIN_LIM_ITERATIONS,
        momentum=0.99,
        length=None,
        rand_init=True,
    )
    loudest = float(samples.abs().max().clamp(min=1.0))
    return (samples / loudest).numpy().astype(np.float32)


def _write_wav(frames: Frames, path: Path) -> None:
    soundfile.write(path, invert(frames), SAMPLE_RATE, format="WAV")


def _draw(demonstrations: list[Demonstration]) -> Figure:
    columns = 2
    rows = -(-len(demonstrations) // columns)
    figure = Figure(figsize=(12, 1.7 * rows), layout="constrained")
    longest = max(len(each.frames) for each in demonstrations)
    low, high = np.quantile(demonstrations[0].frames, [0.02, 0.995])
    for position, each in enumerate(demonstrations, 1):
        axes = figure.add_subplot(rows, columns, position)
        axes.imshow(
            each.frames.T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(0, len(each.frames) * FRAME_SHIFT / SAMPLE_RATE, 0, each.frames.shape[1]),
        )
        axes.set_xlim(0, longest * FRAME_SHIFT / SAMPLE_RATE)
        axes.set_title(each.name.replace("_", " "), fontsize=9)
        axes.set_ylabel("mel band", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("seconds", fontsize=8)
    return figure

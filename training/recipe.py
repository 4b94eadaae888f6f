"""A recipe: everything that decides a training run, read from one YAML file."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from asr.errors import RecipeError
from asr.features import FeatureConfig
from training.compression.quantization import PRECISIONS
from training.model import SIZES

_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")
"""A number such as 1e-3; PyYAML takes it for a text, because it has no point."""


@dataclass(frozen=True)
class SourceConfig:
    """One source of training speech: manifests, or shards."""

    manifests: str | None = None  # glob of JSONL manifests, relative to the data folder
    split: str = "train"  # rows of this split are used
    weight: float = 1.0  # how often an epoch holds each utterance; 0.5: a random half of them
    shar: str | None = None  # URL of lhotse Shar shards, or their folder in the data folder

    def __post_init__(self) -> None:
        if (self.manifests is None) == (self.shar is None):
            raise ValueError("expected either manifests or shar")
        _require_positive(self, "weight")


@dataclass(frozen=True)
class DevSetConfig:
    """One set whose word error rate is reported on its own."""

    name: str
    manifests: str
    split: str = "dev"
    limit: int = 120  # utterances used by the validations during training

    def __post_init__(self) -> None:
        _require_positive(self, "limit")


@dataclass(frozen=True)
class TextConfig:
    """Sentences that are read and not heard; see `training.text_injection`."""

    file: str  # plain or .xz, a paragraph a line, relative to the data folder
    sentences: int = 20_000  # that are drawn from it
    share: float = 0.5  # seconds of them for each second of audio, on top of batch_seconds

    def __post_init__(self) -> None:
        _require_positive(self, "sentences", "share")
        _require_range(self, "share", 0, 4)


@dataclass(frozen=True)
class DataConfig:
    """What is trained on and measured on."""

    train: tuple[SourceConfig, ...]
    dev: tuple[DevSetConfig, ...]
    phones: tuple[SourceConfig, ...] = ()  # synthetic speech with phone times, for pre-training
    text: TextConfig | None = None  # for the upper blocks alone (needs loss.phone_weight)
    noise: str | None = None  # glob of recordings of noise, relative to the data folder
    rooms: str | None = None  # glob of impulse responses of rooms
    max_duration: float = 30.0  # s; longer utterances are skipped and counted
    min_duration: float = 0.2  # s

    def __post_init__(self) -> None:
        for name in ("train", "dev"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; expected at least one set of manifests")
        names = [dev.name for dev in self.dev]
        if len(set(names)) < len(names):
            raise ValueError(f"dev has sets named {', '.join(names)}; each needs its own name")


@dataclass(frozen=True)
class AugmentationConfig:
    """Warps and masks of log-mel features; drawn anew for each utterance of each epoch."""

    stretch: tuple[float, float] = (0.88, 1.14)  # speaking rate, 1 leaves it alone
    mel_warp: tuple[float, float] = (0.82, 1.22)  # frequencies, as of a shorter vocal tract
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise_probability: float = 0.3  # of a stationary coloured noise floor
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    recorded_noise_probability: float = 0.0  # of a noise from data.noise
    recorded_noise_snr_db: tuple[float, float] = (0.0, 30.0)
    enclosing_noise_probability: float = 0.0  # of one before and after the speech, not under it
    enclosing_noise_snr_db: tuple[float, float] = (-6.0, 25.0)  # of noise alone too
    noise_alone_probability: float = 0.0  # of one in place of the speech: nothing is said
    room_probability: float = 0.0  # of a room: one of data.rooms, or a simulated one
    narrow_probability: float = 0.0  # of a telephone, a codec, a cheap microphone
    silence_cut_probability: float = 0.0  # of shorter pauses
    frequency_masks: int = 2
    frequency_mask_bins: int = 16  # widest mask
    time_masks_per_10s: float = 3.0
    time_mask_frames: int = 30  # widest mask, of 10 ms frames

    def __post_init__(self) -> None:
        for name in (
            *("stretch", "mel_warp", "gain_db", "noise_snr_db"),
            *("recorded_noise_snr_db", "enclosing_noise_snr_db"),
        ):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is from {low} to {high}; expected the lower one first")
        for name in ("stretch", "mel_warp"):
            if not getattr(self, name)[0] > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected factors above 0")
        for field_ in dataclasses.fields(self):
            if field_.name.endswith("_probability"):
                _require_probability(self, field_.name)
        for name in ("frequency_masks", "time_masks_per_10s", "time_mask_frames"):
            _require_range(self, name, 0)
        _require_range(self, "frequency_mask_bins", 0, FeatureConfig().num_mel_bins)

    @staticmethod
    def none() -> "AugmentationConfig":
        """Return the one that leaves features as they are."""
        return AugmentationConfig(
            stretch=(1.0, 1.0),
            mel_warp=(1.0, 1.0),
            gain_db=(0.0, 0.0),
            noise_probability=0.0,
            frequency_masks=0,
            time_masks_per_10s=0.0,
        )

    def for_frame_targets(self) -> "AugmentationConfig":
        """Nobody can tell a phone that is masked or gone, and cut or added time moves others."""
        return dataclasses.replace(
            self,
            frequency_masks=0,
            time_masks_per_10s=0.0,
            silence_cut_probability=0.0,
            enclosing_noise_probability=0.0,
            noise_alone_probability=0.0,
        )


@dataclass(frozen=True)
class ScheduleConfig:
    """Length, batches and learning rate of one stage."""

    hours: float  # audio seen until the end of the stage
    batch_seconds: float = 60.0  # audio in a batch of one process, padding included
    learning_rate: float = 1e-3
    warmup_hours: float = 4.0  # audio over which the rate rises from zero
    decay_hours: float = 40.0  # audio over which it falls to zero at the end
    weight_decay: float = 0.01
    skip_probability: float = 0.0  # of each branch of each block being skipped by an utterance
    gradient_clip: float = 5.0
    average_decay: float = 0.998  # of the exponential moving average of the weights
    validate_every_hours: float = 20.0  # audio between two validations
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self, "hours", "batch_seconds", "learning_rate", "validate_every_hours")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay is {self.average_decay}; expected 0 to 1, without 1")
        if not 0 <= self.skip_probability < 1:
            raise ValueError(
                f"skip_probability is {self.skip_probability}; expected 0 to 1, without 1"
            )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses of a transducer."""

    ctc_weight: float = 0.3
    fastemit: float = 0.005  # arXiv 2010.11148
    band: int = 5  # predictor positions per frame in the pruned lattice
    simple_weight: float = 0.5  # of the cheap lattice, after the ramp
    consistency_weight: float = 0.0  # of two views of each utterance, heard together; 0: one view
    phone_weight: float = 0.0  # of phone CTC on the lower blocks (needs flite); 0: none
    ramp_hours: float = 6.0  # audio over which the pruned loss grows from 0.1 to 1

    def __post_init__(self) -> None:
        # Of one position: no token could ever be emitted, only blanks.
        _require_range(self, "band", 2)


@dataclass(frozen=True)
class StreamingTrainingConfig:
    """What each utterance of a batch draws, so that one set of weights serves every chunk size."""

    chunk_frames: tuple[int, ...] = (4, 8, 16)
    left_frames: tuple[int, ...] = (64, 128)
    full_probability: float = 0.2  # of an utterance that is seen as a whole
    validation_chunk_frames: int = 8
    validation_left_frames: int = 64

    def __post_init__(self) -> None:
        for name in ("chunk_frames", "left_frames"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(
                    f"{name} is {list(getattr(self, name))}; expected one or more numbers above 0"
                )
        _require_probability(self, "full_probability")
        _require_positive(self, "validation_chunk_frames", "validation_left_frames")


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    name: str  # of the folder under the work folder
    data: DataConfig
    train: ScheduleConfig
    pretrain: ScheduleConfig | None = None  # frame-wise phone classification; None: none
    size: str = "s"  # xs, s, m or l
    vocab_size: int = 256
    seed: int = 1
    precision: str = "auto"  # 32, bf16, or auto: bf16 where the processor has it
    quantize: str | None = None  # int8 or int4: learn to be exported so; None: don't
    initial_share: float = 0.0  # of the weights that the run began with (--from) in the final ones
    processes: int = 1  # on a CPU; each takes one thread
    data_workers: int = 0  # processes that load batches, for each training process
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    streaming: StreamingTrainingConfig = field(default_factory=StreamingTrainingConfig)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size is {self.size!r}; expected one of {', '.join(SIZES)}")
        if self.precision not in ("auto", "32", "bf16"):
            raise ValueError(f"precision is {self.precision!r}; expected auto, 32 or bf16")
        if self.quantize not in (None, *PRECISIONS):
            raise ValueError(
                f"quantize is {self.quantize!r}; expected one of {', '.join(PRECISIONS)}"
            )
        if Path(self.name).name != self.name:
            raise ValueError(f"name is {self.name!r}; expected the name of one folder")
        for kind in ("recorded_noise", "enclosing_noise", "noise_alone"):
            if getattr(self.augmentation, f"{kind}_probability") and not self.data.noise:
                raise ValueError(f"{kind}_probability needs data.noise: recordings of noise")
        if self.data.text and not self.loss.phone_weight:
            raise ValueError("data.text needs loss.phone_weight: the phones of the recordings")
        if self.pretrain and not self.data.phones:
            raise ValueError("pretrain needs data.phones: synthetic speech with phone times")
        _require_probability(self, "initial_share")
        _require_positive(self, "vocab_size", "processes")


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} is {getattr(config, name)}; expected more than 0")


def _require_range(config: Any, name: str, low: float, high: float | None = None) -> None:
    value = getattr(config, name)
    if not low <= value or (high is not None and not value <= high):
        expected = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} is {value}; expected {expected}")


def _require_probability(config: Any, name: str) -> None:
    _require_range(config, name, 0, 1)


def resized(recipe: Recipe, size: str | None) -> Recipe:
    """Return a recipe for another size, whose run has a folder of its own: NAME-SIZE.

    Without a size, or with its own, it stays what it is. Raises RecipeError for a size that there
    isn't.
    """
    if size in (None, recipe.size):
        return recipe
    try:
        return dataclasses.replace(recipe, size=size, name=f"{recipe.name}-{size}")
    except ValueError as error:
        raise RecipeError(str(error)) from error


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe. A key that does not exist is an error that names the nearest one.

    changes: KEY=VALUE each, as `train.hours=10`; the value is YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: the recipe can't be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a YAML file: {error}") from error
    for change in changes:
        _change(content, change)
    recipe = _build(Recipe, content, str(path), "")
    assert isinstance(recipe, Recipe)
    return recipe


def _change(content: Any, change: str) -> None:
    """Set one value of a parsed recipe; `_build` then finds what is wrong with it."""
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change!r}; expected KEY=VALUE, as in train.hours=10")
    *parents, name = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {}) if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise RecipeError(f"--set {change!r}: {'.'.join(parents)} holds no keys; set all of it")
    try:
        content[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change!r}: the value is not YAML: {error}") from error


def _build(kind: Any, value: Any, path: str, where: str) -> Any:
    """Turn parsed YAML into the type `kind`, naming the place of whatever does not fit."""
    place = f"{path}: {where or 'the recipe'}"
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RecipeError(f"{place} is {value!r}; expected keys and values")
        return _build_dataclass(kind, value, path, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, path, where)
    if origin is tuple:
        return _build_tuple(arguments, value, path, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{place} is {value!r}; expected a value of type {kind.__name__}")
    return value


def _build_dataclass(kind: type, value: dict[str, Any], path: str, where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in value:
        if key not in fields:
            nearest = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            raise RecipeError(
                f"{path}: unknown key {(where + '.' + str(key)).lstrip('.')!r}; "
                f"did you mean {nearest[0]!r}?"
            )
    for name, spec in fields.items():
        optional = (
            spec.default is not dataclasses.MISSING
            or spec.default_factory is not dataclasses.MISSING
        )
        if name not in value and not optional:
            raise RecipeError(f"{path}: key {(where + '.' + name).lstrip('.')!r} is missing")
    values = {k: _build(hints[k], v, path, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{path}: {where + ': ' if where else ''}{error}") from error


def _build_tuple(arguments: tuple[Any, ...], value: Any, path: str, where: str) -> Any:
    if not isinstance(value, list):
        raise RecipeError(f"{path}: {where} is {value!r}; expected a list")
    if arguments[-1] is Ellipsis:
        return tuple(_build(arguments[0], v, path, f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(arguments):
        raise RecipeError(f"{path}: {where} has {len(value)} values; expected {len(arguments)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(_build(a, v, path, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))

"""A model bundle: the directory, or the one `.zip`, that carries a model to a device.

`bundle.json` describes everything beside it: the feature and chunk configuration, the variants of
the graphs, the token table, the golden self-test, and the size and sha256 of every file. Nothing of
a bundle is used before it has been checked against that description.

It is checked at every load, not once a machine: reading and hashing the 11.7 MB of the built-in
model take 52 ms, and a note that says "checked" would believe whatever replaced a file since.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from asr.bundle_files import ADVICE, BundleFiles, bundle_files, is_plain_name
from asr.errors import BundleError
from asr.features import FRAME_SHIFT, FeatureConfig
from asr.schema import SchemaError, check_keys, read_dataclass
from asr.sha256 import sha256

SCHEMA_VERSION = 5
MANIFEST_NAME = "bundle.json"

SUBSAMPLING_OVERLAP = 3
"""Feature frames that an encoder call shares with the next: the subsampling is two convolutions of
width 3 and stride 2 without padding, so C encoder frames need 4C + 3 feature frames."""

MAX_CHUNK_FRAMES = 256
"""Encoder frames of the longest encoder call, 10.24 s: the tables of positions end there."""

_MAX_FRAMES = 1000  # what streaming.* may state; more would be memory, not a model
_MAX_MANIFEST_BYTES = 1_000_000
_MAX_FILE_BYTES = 2**31  # ONNX holds no more
_BLOCK_BYTES = 1 << 18  # of a file that is hashed

_OTHER_FILE = b"location"
"""What ONNX calls the path of a file that weights are in. onnxruntime 1.23 follows it wherever it
leads, later versions into the directory only; none compares what is there with `bundle.json`."""

ONNXRUNTIME = ("ort", "onnx")
"""The engines that are onnxruntime, by the format that they load, the fastest first."""

SEARCHES = ("two-pass", "beam", "greedy")
"""Beam search asks the bundle's language model, if it has one. In two passes it searches each chunk
at once, as a preview, and again as a part of a longer one; greedy search is the cheapest."""

_MODELS = Path(__file__).parent / "models"

BLANK_SYMBOL = "<blk>"
UNK_SYMBOL = "<unk>"


@dataclass(frozen=True)
class StreamingConfig:
    """The geometry of streaming: how feature frames become chunks."""

    subsampling_factor: int = 4  # feature frames (10 ms) per encoder frame
    chunk_frames: int = 8  # encoder frames (40 ms) per encoder call, unless a stream has its own
    left_context_frames: int = 64  # encoder frames that attention sees behind the chunk
    tail_padding_frames: int = 19  # feature frames of silence that end a stream, as in training

    @property
    def tail_samples(self) -> int:
        """The silence that ends a stream, in samples at 16 kHz."""
        return self.tail_padding_frames * FRAME_SHIFT

    def feature_frames(self, chunk_frames: int) -> int:
        """Return how many feature frames a call that gives `chunk_frames` encoder frames takes."""
        return self.subsampling_factor * chunk_frames + SUBSAMPLING_OVERLAP

    def encoder_frames(self, feature_frames: int) -> int:
        """Return how many whole encoder frames `feature_frames` feature frames give."""
        return max(0, (feature_frames - SUBSAMPLING_OVERLAP) // self.subsampling_factor)


@dataclass(frozen=True)
class ModelConfig:
    """The dimensions of the graphs."""

    encoder_layers: int
    encoder_dim: int
    conv_kernel: int  # frames, odd; causal
    joiner_dim: int
    context_size: int  # tokens that the predictor sees
    vocab_size: int  # blank included
    parameters: int


@dataclass(frozen=True)
class GraphFiles:
    """One variant of the graphs: their arithmetic, what runs them, and their file names."""

    engine: str  # "onnx"; "ort": the same runtime's own format; or one of a later version
    precision: str  # such as "int8"
    encoder: str
    predictor: str
    joiner: str

    @property
    def names(self) -> tuple[str, str, str]:
        """The file names."""
        return self.encoder, self.predictor, self.joiner


@dataclass(frozen=True)
class LanguageModelFile:
    """A language model, and how much it counts: `asr.decoding.language_model`."""

    file: str
    weight: float  # of its log-probabilities, beside those of the transducer
    internal_weight: float  # of the transducer's own language model, which is taken off
    transcript_weight: float  # of what the transcripts that it learned from expect: taken off, too


@dataclass(frozen=True)
class FileEntry:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class GoldenErrors:
    """Max abs errors against the golden outputs: those found, or those tolerated."""

    encoder_out: float
    log_probs: float  # of the joiner, behind the predictor


@dataclass(frozen=True)
class Golden:
    """The self-test: an input, its output on the exporting machine, how far off a device may be."""

    file: str
    tolerance: Mapping[str, GoldenErrors]  # by precision


@dataclass(frozen=True)
class Bundle:
    """A bundle and where it lies. `open_bundle` reads one, the exporter makes one."""

    path: Path  # of the directory or the zip
    name: str
    language: str
    model: ModelConfig
    variants: tuple[GraphFiles, ...]  # the precisions in the order of preference
    files: Mapping[str, FileEntry]  # every file of the bundle but bundle.json
    golden: Golden
    language_model: LanguageModelFile | None = None
    tokens: str = "tokens.txt"
    features: FeatureConfig = field(default_factory=FeatureConfig)
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    card: Mapping[str, Any] = field(default_factory=dict)  # the model card: free form

    def to_dict(self) -> dict[str, Any]:
        """Return what `bundle.json` holds."""
        content = asdict(self) | {"variants": [asdict(graphs) for graphs in self.variants]}
        del content["path"]
        return {"schema_version": SCHEMA_VERSION, **content}

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that the bundle has, the exporter's choice first."""
        return tuple(dict.fromkeys(graphs.precision for graphs in self.variants))

    @property
    def sha256(self) -> str:
        """Of `bundle.json`, which has those of all files: what tells this bundle from any other."""
        with bundle_files(self.path) as files, files.open(MANIFEST_NAME) as file:
            return str(sha256(file.read(_MAX_MANIFEST_BYTES)).hexdigest())

    def graphs(self, precision: str | None = None, engine: str | None = None) -> GraphFiles:
        """Return the graph files of a variant.

        Without a precision they are of the first that the bundle has; without an engine, they are
        for the one that loads fastest, of those that this version has. Raises BundleError if the
        bundle has no such variant.
        """
        precision = precision or self.precisions[0]
        if precision not in self.precisions:
            raise BundleError(
                f"{self.path}: this model has no precision {precision!r}; "
                f"it has {', '.join(sorted(self.precisions))}"
            )
        by_engine = {each.engine: each for each in self.variants if each.precision == precision}
        order = [*ONNXRUNTIME, *by_engine] if engine is None else [engine]
        for name in order:
            if name in by_engine:
                return by_engine[name]
        raise BundleError(
            f"{self.path}: this model has no {precision} graphs for the engine {engine!r}; "
            f"it has them for {', '.join(sorted(by_engine))}"
        )

    def search(self, name: str | None = None) -> str:
        """Return the name of a search, of SEARCHES: without one, that which suits the bundle best.

        Raises BundleError for another name.
        """
        if name is None:
            return "two-pass" if self.language_model else "greedy"
        if name not in SEARCHES:
            raise BundleError(f"the search {name!r}; expected two-pass, beam or greedy")
        return name

    def megabytes(self, graphs: GraphFiles) -> float:
        """Return the size of a variant, the language model included."""
        names = {*graphs.names, *([self.language_model.file] if self.language_model else [])}
        return sum(self.files[name].bytes for name in names) / 1e6

    def file(self, name: str) -> Path | None:
        """Return where a file is on the disk, None in a zip."""
        return self.path / name if self.path.is_dir() else None

    def read(self, name: str) -> bytes:
        """Return what is in a file; raise BundleError if it isn't what `bundle.json` says."""
        with bundle_files(self.path) as files:
            return b"".join(_verified_blocks(files, name, self.files[name]))

    def read_tokens(self) -> tuple[str, ...]:
        """Return the symbol of each token id; raise BundleError if the table is not whole."""
        return _read_tokens(self.path / self.tokens, self.read(self.tokens), self.model.vocab_size)


def open_bundle(path: str | Path) -> Bundle:
    """Read and verify the bundle at `path`, a directory or a zip.

    Raises:
        BundleError: no bundle there, another schema version, an unknown or missing key, or a file
            that is missing, truncated, altered, outside the bundle, or a graph with weights in
            other files. The message names the file and says what to do.
    """
    path = Path(path)
    with bundle_files(path) as files:
        bundle = _read_bundle(files)
        variants = [each for each in bundle.variants if each.engine in ONNXRUNTIME]
        graphs = {name for each in variants for name in each.names}
        for name, entry in bundle.files.items():
            names_another = _contain(_verified_blocks(files, name, entry), _OTHER_FILE)
            if names_another and name in graphs:
                raise BundleError(
                    f"{path / name}: its weights are in another file, which {MANIFEST_NAME} can't "
                    "vouch for; export the model again"
                )
    return bundle


def _read_bundle(files: BundleFiles) -> Bundle:
    path = files.path
    content = _read_manifest(files)
    manifest = path / MANIFEST_NAME
    version = content.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{manifest}: schema version {version!r}, but this version of asr reads "
            f"{SCHEMA_VERSION}; export the model again, or install the version of earshot-asr "
            "that it was made with"
        )
    try:
        bundle = _bundle_from_dict(path, content)
    except SchemaError as error:
        raise BundleError(f"{manifest}: {error}") from error
    _check_references(bundle)
    return bundle


def builtin_bundle_path() -> Path:
    """Return the directory of the English model that comes with the package."""
    path = _MODELS / "en"
    if not path.is_dir():
        raise BundleError(
            f"the built-in model is not at {path}; reinstall earshot-asr, or name a bundle"
        )
    return path


def file_entry(path: Path) -> FileEntry:
    """Return the size and sha256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
        return FileEntry(sha256=digest.hexdigest(), bytes=file.tell())


def _read_manifest(files: BundleFiles) -> dict[str, Any]:
    manifest = files.path / MANIFEST_NAME
    try:
        files.size(MANIFEST_NAME)
    except BundleError as error:
        raise BundleError(
            f"{files.path}: no {MANIFEST_NAME} in it, so it is not a model bundle; "
            "asr-export CHECKPOINT OUT makes one"
        ) from error
    with files.open(MANIFEST_NAME) as file:
        raw = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(raw) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{manifest}: larger than {_MAX_MANIFEST_BYTES} bytes; {ADVICE}")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # bad or endless JSON, or not UTF-8
        raise BundleError(f"{manifest}: damaged: {error}; copy the bundle again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{manifest}: expected a JSON object; copy the bundle again")
    return content


def _bundle_from_dict(path: Path, content: dict[str, Any]) -> Bundle:
    check_keys(content, [item.name for item in fields(Bundle) if item.name != "path"], where="")
    for key in ("name", "language", "tokens"):
        if not isinstance(content[key], str):
            raise SchemaError(f"{key}: expected text, got {content[key]!r}")
    if not isinstance(content["variants"], list) or not content["variants"]:
        raise SchemaError(f"variants: expected a list of them, got {content['variants']!r}")
    for key in ("files", "card"):
        if not isinstance(content[key], dict):
            raise SchemaError(f"{key}: expected an object, got {content[key]!r}")
    golden = content["golden"]
    check_keys(golden, [item.name for item in fields(Golden)], where="golden")
    if not isinstance(golden["file"], str):
        raise SchemaError(f"golden.file: expected text, got {golden['file']!r}")
    return Bundle(
        path=path,
        name=content["name"],
        language=content["language"],
        model=read_dataclass(ModelConfig, content["model"], "model"),
        variants=tuple(
            read_dataclass(GraphFiles, graphs, f"variants.{number}")
            for number, graphs in enumerate(content["variants"])
        ),
        files={
            name: read_dataclass(FileEntry, entry, f"files.{name}")
            for name, entry in content["files"].items()
        },
        golden=Golden(file=golden["file"], tolerance=_tolerances(golden["tolerance"])),
        language_model=(
            None
            if content["language_model"] is None
            else read_dataclass(LanguageModelFile, content["language_model"], "language_model")
        ),
        tokens=content["tokens"],
        features=read_dataclass(FeatureConfig, content["features"], "features"),
        streaming=read_dataclass(StreamingConfig, content["streaming"], "streaming"),
        card=content["card"],
    )


def _tolerances(content: Any) -> dict[str, GoldenErrors]:
    if not isinstance(content, dict):
        raise SchemaError(f"golden.tolerance: expected an object, got {content!r}")
    tolerances = {}
    for precision, errors in content.items():
        where = f"golden.tolerance.{precision}"
        tolerance = tolerances[precision] = read_dataclass(GoldenErrors, errors, where)
        for key, value in asdict(tolerance).items():
            if value <= 0:
                raise SchemaError(f"{where}.{key}: expected a positive number, got {value!r}")
    return tolerances


def _check_references(bundle: Bundle) -> None:
    """Check that the parts of the manifest agree with each other and with this version of asr, and
    stay inside the bundle."""
    manifest = bundle.path / MANIFEST_NAME
    for name, entry in bundle.files.items():
        if not is_plain_name(name):
            raise BundleError(
                f"{manifest}: files: {name!r} is not the name of a file in the bundle's own "
                "directory; don't use this bundle"
            )
        if not 0 <= entry.bytes <= _MAX_FILE_BYTES:
            raise BundleError(
                f"{manifest}: files.{name}.bytes: expected 0 to {_MAX_FILE_BYTES}, got "
                f"{entry.bytes}"
            )
    used = {"tokens": bundle.tokens, "golden.file": bundle.golden.file}
    if bundle.language_model:
        used["language_model.file"] = bundle.language_model.file
        for key in ("weight", "internal_weight", "transcript_weight"):
            if not 0 <= (weight := getattr(bundle.language_model, key)) <= 1:
                raise BundleError(
                    f"{manifest}: language_model.{key}: expected 0 to 1, got {weight}"
                )
    seen = set()
    for number, graphs in enumerate(bundle.variants):
        for key in ("encoder", "predictor", "joiner"):
            used[f"variants.{number}.{key}"] = getattr(graphs, key)
        if (variant := (graphs.precision, graphs.engine)) in seen:
            raise BundleError(f"{manifest}: variants: {' for '.join(variant)} is there twice")
        seen.add(variant)
    for key, name in used.items():
        if name not in bundle.files:
            raise BundleError(f"{manifest}: {key} names {name!r}, which is not listed in files")
    for precision in bundle.precisions:
        if precision not in bundle.golden.tolerance:
            raise BundleError(f"{manifest}: golden.tolerance has no {precision!r}")
    for key, size in asdict(bundle.streaming).items():
        most = MAX_CHUNK_FRAMES if key == "chunk_frames" else _MAX_FRAMES
        if not 1 <= size <= most:
            raise BundleError(f"{manifest}: streaming.{key}: expected 1 to {most}, got {size}")
    for key, size in asdict(bundle.model).items():
        if size < 1:
            raise BundleError(f"{manifest}: model.{key}: expected 1 or more, got {size}")
    for key, expected in asdict(FeatureConfig()).items():
        if (found := getattr(bundle.features, key)) != expected:
            raise BundleError(
                f"{manifest}: features.{key}: this version of asr computes {expected}, got {found}"
            )
    if bundle.streaming.subsampling_factor != 4 or bundle.model.context_size != 2:
        raise BundleError(
            f"{manifest}: expected subsampling_factor 4 and context_size 2, got "
            f"{bundle.streaming.subsampling_factor} and {bundle.model.context_size}"
        )


def _verified_blocks(files: BundleFiles, name: str, expected: FileEntry) -> Iterator[bytes]:
    """Yield the content of a file; raise BundleError at its end, or before, if it isn't what was
    expected. No more than that is read of it, whatever a zip says of its size."""
    path = files.path / name
    size = files.size(name)  # first: it costs nothing, the digest reads the file
    if size != expected.bytes:
        raise BundleError(f"{path}: {size} bytes, but {expected.bytes} were expected; {ADVICE}")
    digest, left = sha256(), expected.bytes
    with files.open(name) as file:
        while left and (block := file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
            yield block
    if (found := digest.hexdigest()) != expected.sha256:
        raise BundleError(
            f"{path}: its content was changed (sha256 {found[:12]}..., expected "
            f"{expected.sha256[:12]}...); {ADVICE}"
        )


def _contain(blocks: Iterable[bytes], wanted: bytes) -> bool:
    """Whether some bytes are in a file, also across blocks. Reads it to its end."""
    found, tail = False, b""
    for block in blocks:
        found = found or wanted in tail + block
        tail = (tail + block[-len(wanted) :])[1 - len(wanted) :]
    return found


def _read_tokens(path: Path, content: bytes, vocab_size: int) -> tuple[str, ...]:
    symbols: list[str] = []
    try:
        # Not splitlines(): a piece may be a character that it takes for the end of a line.
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: can't be read: {error}") from error
    for number, line in enumerate(lines):
        symbol, _, token_id = line.rpartition(" ")
        if not symbol or token_id != str(number):
            raise BundleError(f"{path}:{number + 1}: expected 'symbol {number}', got {line!r}")
        symbols.append(symbol)
    if symbols[:2] != [BLANK_SYMBOL, UNK_SYMBOL] or len(symbols) != vocab_size:
        raise BundleError(
            f"{path}: expected {vocab_size} tokens, {BLANK_SYMBOL} and {UNK_SYMBOL} first; "
            f"got {len(symbols)} tokens, {symbols[:2]} first"
        )
    return tuple(symbols)

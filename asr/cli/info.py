"""`asr info`: what is in a model, what it costs here, and whether it computes the right thing."""

import platform
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from asr import __version__
from asr.bundle import Bundle, GoldenErrors, GraphFiles, builtin_bundle_path, open_bundle
from asr.cli.options import Engine, Model
from asr.errors import BundleError
from asr.tuned import read_tuned

_DEEPEST = 20  # of the levels of a model card that are shown


def info_command(
    model: Model = None,
    engine: Engine = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the self-test of each variant now.")
    ] = False,
) -> None:
    """Describe a model. Its files are checked against their checksums.

    For each variant: its size, and what this machine has found out about it, when it first loaded
    it and when it first held a budget with it. With --verify, the exit code is 2 if one fails.
    """
    bundle = open_bundle(model or builtin_bundle_path())
    variants = [each for each in bundle.variants if engine in (None, each.engine)]
    if not variants:
        bundle.graphs(engine=engine)  # raises an error that says what there is
    for key, value in _describe(bundle).items():
        _print(f"{key:<14}{value}")
    if (tuned := read_tuned(bundle)) is not None:
        _print(f"{'runs with':<14}{tuned}, unless an option is given: asr tune, {tuned.date}")
    failed = []
    for graphs in variants:
        name = f"{graphs.precision} for {graphs.engine}"
        _print(f"{'variant':<14}{name}, {bundle.megabytes(graphs):.1f} MB")
        lines = _here(bundle, graphs)
        if verify:
            try:
                lines["self-test"] = _passed(bundle, graphs, _self_test(bundle, graphs))
            except BundleError as error:
                lines["self-test"] = "failed, see below"
                failed.append(str(error))
        for key, value in lines.items():
            _print(f"  {key:<12}{value}")
    if bundle.card:
        _print("card")
        _print_card(bundle.card, level=1)
    if failed:
        raise BundleError("\n".join(failed))


def _describe(bundle: Bundle) -> dict[str, str]:
    model, streaming = bundle.model, bundle.streaming
    frame_s = streaming.subsampling_factor * bundle.features.frame_shift_ms / 1000
    files = sum(entry.bytes for entry in bundle.files.values()) / 1e6
    return {
        "model": f"{bundle.name} ({bundle.language}) in {bundle.path}",
        "files": f"{len(bundle.files)}, {files:.1f} MB",
        "parameters": f"{model.parameters / 1e6:.2f} M",
        "encoder": f"{model.encoder_layers} layers of {model.encoder_dim}",
        "vocabulary": f"{model.vocab_size} tokens",
        "search": _describe_search(bundle),
        "chunk": f"{1000 * frame_s * streaming.chunk_frames:.0f} ms",
        "left context": f"{frame_s * streaming.left_context_frames:.2f} s",
        "runtime": f"earshot-asr {__version__}, {_engine_versions(bundle)}, Python "
        f"{platform.python_version()}, {platform.machine()}",
    }


def _describe_search(bundle: Bundle) -> str:
    if (language_model := bundle.language_model) is None:
        return bundle.search()
    megabytes = bundle.files[language_model.file].bytes / 1e6
    return f"{bundle.search()}, with a language model of {megabytes:.1f} MB"


def _engine_versions(bundle: Bundle) -> str:
    """Return what runs the variants here, each once; without a version where it isn't installed."""
    from asr.profile import profile_key

    keys = (profile_key(bundle, each.precision, 1, each.engine) for each in bundle.variants)
    return ", ".join(dict.fromkeys(key.runtime for key in keys))


def _here(bundle: Bundle, graphs: GraphFiles) -> dict[str, str]:
    """Return what this machine knows of a variant, in one thread."""
    from asr.budget import CHUNKS_MS, OperatingPoint
    from asr.calibration import read_profile
    from asr.engines import longest_chunk_ms
    from asr.profile import profile_key
    from asr.self_test import read_self_test

    key = profile_key(bundle, graphs.precision, 1, graphs.engine)
    tested = read_self_test(key)
    lines = {"self-test": "not run here yet: the first load does, or --verify"}
    if tested is not None:
        lines["self-test"] = _passed(bundle, graphs, tested.errors)
        grown = f", {tested.cost.mb:.0f} MB" if tested.cost.mb else ""
        lines["first load"] = f"{tested.cost.ms:.0f} ms{grown}"
    longest_ms = longest_chunk_ms(bundle, graphs.engine)
    profile = read_profile(key, [OperatingPoint(ms) for ms in CHUNKS_MS if ms <= longest_ms])
    if profile is None:
        lines["a stream"] = "not measured here yet: the first one with a budget does"
    else:
        point = OperatingPoint(bundle.streaming.chunk_frames * 40)
        point = point if point in profile.rtf else min(profile.rtf)
        lines["a stream"] = (
            f"RTF {profile.rtf[point]:.3f} in chunks of {point}, and up to "
            f"{max(profile.growth_mb.values()):.0f} MB"
        )
    return lines


def _self_test(bundle: Bundle, graphs: GraphFiles) -> GoldenErrors:
    from asr.engines import open_engine
    from asr.engines.golden import verify_golden

    engine = open_engine(bundle, graphs.precision, engine=graphs.engine)
    return verify_golden(bundle, engine, graphs.precision)


def _passed(bundle: Bundle, graphs: GraphFiles, found: GoldenErrors) -> str:
    allowed = bundle.golden.tolerance[graphs.precision]
    return (
        f"passed: max error of the encoder {found.encoder_out:.2g} "
        f"(tolerance {allowed.encoder_out:.2g}), of the joiner {found.log_probs:.2g} "
        f"({allowed.log_probs:.2g})"
    )


def _print_card(card: Mapping[str, Any], level: int) -> None:
    for key, value in card.items():
        if not isinstance(value, Mapping):
            _print(f"{'  ' * level}{key}: {value}")
        elif level < _DEEPEST:
            _print(f"{'  ' * level}{key}")
            _print_card(value, level + 1)
        else:
            _print(f"{'  ' * level}{key}: ...")


def _print(line: str) -> None:
    """Print what may be a stranger's text: as one line, and no command to the terminal."""
    typer.echo("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))

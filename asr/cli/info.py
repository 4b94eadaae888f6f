"""`asr info`: what a model is, and whether it computes the right thing here."""

import platform
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from asr import __version__
from asr.bundle import Bundle, builtin_bundle_path, open_bundle
from asr.cli.options import Model


def info_command(
    model: Model = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run the self-test of each precision as well.")
    ] = False,
) -> None:
    """Describe a model. Its files are checked against their checksums."""
    bundle = open_bundle(model or builtin_bundle_path())
    for key, value in _describe(bundle).items():
        typer.echo(f"{key:<14}{value}")
    if verify:
        for precision in bundle.precisions:
            typer.echo(f"{'self-test':<14}{_self_test(bundle, precision)}")
    if bundle.card:
        typer.echo("card")
        _print_card(bundle.card, indent=2)


def _describe(bundle: Bundle) -> dict[str, str]:
    model, streaming = bundle.model, bundle.streaming
    frame_s = streaming.subsampling_factor * bundle.features.frame_shift_ms / 1000
    sizes = [f"{name} {_megabytes(bundle, name):.1f} MB" for name in bundle.precisions]
    return {
        "model": f"{bundle.name} ({bundle.language}) in {bundle.path}",
        "parameters": f"{model.parameters / 1e6:.2f} M",
        "encoder": f"{model.encoder_layers} layers of {model.encoder_dim}",
        "vocabulary": f"{model.vocab_size} tokens",
        "precisions": ", ".join(sizes),
        "chunk": f"{1000 * frame_s * streaming.chunk_frames:.0f} ms",
        "left context": f"{frame_s * streaming.left_context_frames:.2f} s",
        "runtime": f"earshot-asr {__version__}, {_engine_version()}, Python "
        f"{platform.python_version()}, {platform.machine()}",
    }


def _megabytes(bundle: Bundle, precision: str) -> float:
    return sum(bundle.files[name].bytes for name in bundle.graphs(precision).names) / 1e6


def _engine_version() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _self_test(bundle: Bundle, precision: str) -> str:
    from asr.engines import open_engine
    from asr.engines.golden import verify_golden

    found = verify_golden(bundle, open_engine(bundle, precision), precision)
    allowed = bundle.golden.tolerance[precision]
    return (
        f"{precision} passed: max error of the encoder {found.encoder_out:.2g} "
        f"(tolerance {allowed.encoder_out:.2g}), of the joiner {found.log_probs:.2g} "
        f"({allowed.log_probs:.2g})"
    )


def _print_card(card: Mapping[str, Any], indent: int) -> None:
    for key, value in card.items():
        if isinstance(value, Mapping):
            typer.echo(f"{'':{indent}}{key}")
            _print_card(value, indent + 2)
        else:
            typer.echo(f"{'':{indent}}{key}: {value}")

"""`asr info` describes a model and can prove that it computes the right thing here."""

from pathlib import Path

from typer.testing import CliRunner

from asr import __version__
from asr.cli import app


def test_info_describes_the_model(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--model", str(tiny_bundle)])
    assert done.exit_code == 0
    for text in ("tiny (en)", "0.01 M", "2 layers of 4", "12 tokens", "int8 0.0 MB", "320 ms"):
        assert text in done.stdout
    assert "dev: 0.5" in done.stdout, "the model card is missing"
    assert "self-test" not in done.stdout


def test_verify_runs_the_self_test(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--model", str(tiny_bundle), "--verify"])
    assert "self-test     int8 passed" in done.stdout


def test_a_bad_model_exits_with_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--model", str(tmp_path)])
    assert done.exit_code == 2
    assert "no bundle.json" in done.stderr


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"earshot-asr {__version__}\n"

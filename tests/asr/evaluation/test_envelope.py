"""A result says which sources it was measured with, and appears whole or not at all."""

import json
import subprocess
from pathlib import Path

import pytest

from asr.bundle import open_bundle
from asr.engines import open_engine
from asr.evaluation import envelope
from asr.evaluation.envelope import describe_run, write_result
from asr.recognizer import Recognizer


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_commit_of_the_sources(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a mark where they were changed; not that of a repository around an installed package."""
    bundle = open_bundle(tiny_bundle)
    recognizer = Recognizer(bundle, open_engine(bundle), bundle.graphs("int8"))
    package = tmp_path / "asr" / "evaluation"
    package.mkdir(parents=True)
    monkeypatch.setattr(envelope, "__file__", str(package / "envelope.py"))
    assert describe_run(recognizer).commit is None
    git(tmp_path, "init", "--quiet")
    assert describe_run(recognizer).commit is None  # none yet
    source = tmp_path / "source.py"
    source.write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_run(recognizer).commit == commit
    source.write_text("changed")
    assert describe_run(recognizer).commit == f"{commit}-dirty"
    monkeypatch.setattr(envelope, "__file__", str(tmp_path / "x" / "y" / "z" / "envelope.py"))
    assert describe_run(recognizer).commit is None


def test_a_result_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_result(path, {"wer": 0.5})
    with pytest.raises(TypeError):
        write_result(path, {"wer": object()})
    assert json.loads(path.read_text()) == {"wer": 0.5}

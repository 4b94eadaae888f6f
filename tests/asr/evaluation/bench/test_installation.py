"""The closure of requirements, on distributions that are made up, and on this one."""

from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.evaluation.bench.installation import describe_installation


def _install(folder: Path, name: str, requires: list[str], size: int) -> None:
    package = folder / name.replace("-", "_")
    package.mkdir()
    (package / "__init__.py").write_bytes(b"#" * size)
    info = folder / f"{package.name}-1.0.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join([f"Name: {name}", "Version: 1.0", *lines]) + "\n")
    (info / "RECORD").write_text(f"{package.name}/__init__.py,,\n{info.name}/METADATA,,\n")


def test_requirements_of_requirements_count_once_and_extras_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    _install(tmp_path, "fake-top", ["Fake.One>=2", "fake_two ; python_version>'3'"], 1_000_000)
    _install(tmp_path, "fake-one", ["fake-two", "fake-absent; sys_platform == 'win32'"], 2_000_000)
    _install(tmp_path, "fake-two", ["fake-top[all]", "fake-extra; extra == 'all'"], 4_000_000)
    _install(tmp_path, "fake-extra", [], 8_000_000)
    found = describe_installation("fake-top")
    assert found.dependencies == ("fake-one", "fake-two")
    own = 7.0  # an editable install would add the folder of asr, as this one does
    assert found.megabytes > own


def test_the_runtime_is_what_pyproject_says_and_without_torch() -> None:
    found = describe_installation()
    assert {"numpy", "onnxruntime", "kaldi-native-fbank"} <= set(found.dependencies)
    assert not {"torch", "lhotse", "matplotlib"} & set(found.dependencies)
    assert 50 < found.megabytes < 1000


def test_a_source_tree_that_is_not_installed() -> None:
    with pytest.raises(AsrError, match="no-such-package is not installed here"):
        describe_installation("no-such-package")

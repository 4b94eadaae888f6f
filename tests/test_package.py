"""The distribution: what the wheel holds, that it works alone, and which package imports which."""

import ast
import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import asr

ROOT = Path(__file__).parents[1]
PACKAGES = ("asr", "training", "export")
SAMPLES = sorted(p for p in (ROOT / "data/samples").glob("*") if p.suffix in (".wav", ".flac"))


def _run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    result = _run(*pip, "--wheel-dir", folder, ROOT)
    assert result.returncode == 0, result.stderr
    [path] = folder.glob("earshot_asr-*.whl")
    return path


@pytest.fixture(scope="module")
def plain_install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an empty environment into which the wheel was installed without extras."""
    environment = tmp_path_factory.mktemp("plain")
    _run(sys.executable, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python")
    result = _run(*pip, "install", "--retries", "1", wheel)
    if "connection broken by" in result.stderr:
        pytest.skip("the package index can't be reached")
    assert result.returncode == 0, result.stderr
    return environment / "bin"


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    dist_info = f"earshot_asr-{asr.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, dist_info}
    assert not [name for name in names if name.endswith(".pyc")]
    sources = {str(p.relative_to(ROOT)) for package in PACKAGES for p in _sources(package)}
    assert sources <= set(names)


def test_wheel_holds_the_built_in_model_and_the_recipes(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    files = json.loads(archive.read("asr/models/en/bundle.json"))["files"]
    expected = {f"asr/models/en/{name}" for name in [*files, "bundle.json"]}
    in_wheel = {name for name in archive.namelist() if name.startswith("asr/models/en/")}
    assert in_wheel - {"asr/models/en/__init__.py"} == expected
    recipes = {f"training/recipes/{p.name}" for p in (ROOT / "training/recipes").glob("*.yaml")}
    assert recipes
    assert recipes <= set(archive.namelist())


def test_wheel_holds_the_web_page(wheel: Path) -> None:
    pages = {f"asr/web/{p.name}" for p in (ROOT / "asr/web").iterdir()}
    assert "asr/web/index.html" in pages
    assert pages <= set(zipfile.ZipFile(wheel).namelist())


def test_plain_install_transcribes_from_another_folder(plain_install: Path, tmp_path: Path) -> None:
    """The built-in model and every runtime requirement come with the wheel; torch does not."""
    expected = asr.load().transcribe(SAMPLES[0]).text
    assert expected
    result = _run(plain_install / "asr", "transcribe", SAMPLES[0], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert expected in result.stdout
    assert _run(plain_install / "python", "-c", "import torch", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["asr-train", "--recipe", ROOT / "training/recipes/en-small.yaml"], "train"),
        (["asr-export", "checkpoint", "out"], "export"),
        (["asr", "serve"], "serve"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    plain_install: Path, tmp_path: Path, command: list[str | Path], extra: str
) -> None:
    result = _run(plain_install / command[0], *command[1:], cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert f"pip install 'earshot-asr[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_import_is_quick_and_light() -> None:
    """A command line starts in no time; the engine and torch are loaded by who needs them."""
    measure = (
        "import sys, time; start = time.perf_counter(); import asr;"
        "print(time.perf_counter() - start, *sys.modules)"
    )
    outputs = [_run(sys.executable, "-c", measure).stdout.split() for _ in range(5)]
    assert min(float(seconds) for seconds, *_ in outputs) < 0.5
    for _, *modules in outputs:
        assert not {"torch", "onnxruntime"} & set(modules)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("asr", {"training", "export", "torch"}), ("training", {"export"})],
)
def test_dependencies_point_one_way(package: str, forbidden: set[str]) -> None:
    """export -> training -> asr: what runs on a device never needs what made its model.

    ExecuTorch's Python binding takes torch's tensors and no others; its engine alone may see them.
    """
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _sources(package)
        for name in _imports(path)
        if name in forbidden
    }
    assert found <= {"asr/engines/executorch.py: torch"}


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("asr", {"executorch", "mic", "serve", "eval", "peers"}),
        ("training", {"train", "executorch"}),
        ("export", {"train", "export", "executorch"}),
    ],
)
def test_every_import_is_a_declared_requirement(package: str, extras: set[str]) -> None:
    """What the development environment happens to hold is not what a user has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(r for extra in extras for r in optional[extra])]
    declared = {_import_name(requirement) for requirement in requirements}
    standard = {*sys.stdlib_module_names, "_sha2", "_sha256"}  # of another Python than this
    allowed = declared | standard | set(PACKAGES)
    assert [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _sources(package)
        for name in _imports(path)
        if name not in allowed
    ] == []


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    """The top-level name of every import statement of a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _import_name(requirement: str) -> str:
    """`kaldi-native-fbank>=1.22` -> kaldi_native_fbank."""
    distribution = requirement.replace("=", " ").replace(">", " ").replace("[", " ").split()[0]
    return {"pyyaml": "yaml"}.get(distribution, distribution.replace("-", "_"))

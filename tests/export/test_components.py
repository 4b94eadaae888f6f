"""One part of a model is quantized at a time, and nothing else."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.components import app, components
from export.fused import export_graphs
from export.quantize import count_layers
from tests.export.conftest import STREAMING
from training.model import Transducer


def test_every_layer_is_in_one_part_of_the_encoder_or_in_a_head(model: Transducer) -> None:
    """The rows cover the model: no layer's cost stays unseen."""
    names: set[str] = set()
    export_graphs(model, STREAMING, lambda name: names.add(name) or "fp32")  # type: ignore[func-returns-value]
    rows = components(model)
    parts = [row for row in rows if row.startswith("encoder: ")] + ["predictor", "joiner"]
    assert len(names) == 8 * model.config.layers + 5
    for name in names:
        assert [rows[part](name) for part in parts].count(True) == 1, name
        assert rows["all"](name) and not rows["nothing"](name)
        assert rows["encoder"](name) == name.startswith("encoder.")


def test_a_part_alone_is_quantized(model: Transducer) -> None:
    chosen = components(model)["joiner"]
    graphs = export_graphs(model, STREAMING, lambda name: "int8" if chosen(name) else "fp32")
    assert count_layers(graphs.joiner, "int8")["linear"] == 1
    assert not count_layers(graphs.encoder, "int8").total()
    assert not count_layers(graphs.predictor, "int8").total()


def test_the_command_measures_each_part(
    checkpoint: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.components.TIMED_CALLS", 2)
    report = tmp_path / "components.json"
    arguments = [str(checkpoint), str(manifest), "--limit", "1", "--report", str(report)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = {row["component"]: row for row in json.loads(report.read_text())["rows"]}
    assert list(rows) == list(components_of(checkpoint))
    exact = rows["nothing"]
    assert exact["errors"]["substitutions"] == exact["errors"]["deletions"] == 0
    assert rows["all"]["megabytes"] < rows["encoder"]["megabytes"] < exact["megabytes"]
    assert all(row["encoder_ms"] > 0 and row["joiner_ms"] > 0 for row in rows.values())


def components_of(checkpoint: Path) -> list[str]:
    from training.checkpoint import load_model

    return list(components(load_model(checkpoint)[0]))

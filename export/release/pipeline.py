"""From the folder of a finished run to the built-in model of a checkout, or a refusal."""

import functools
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from asr.bundle import Bundle, open_bundle
from asr.errors import ExportError
from asr.evaluation.corpora import read_corpora
from asr.evaluation.corpora.manifest import Manifest, read_manifest
from asr.evaluation.noise import is_held_out
from asr.evaluation.speechless import Speechless, hear_speechless
from asr.recognizer import Recognizer, load
from export.bundle import write_bundle
from export.golden_vectors.model import read_recordings, write_model_vectors
from export.pipeline import verified_contents
from export.release.curve import Point, extended, picture, read_curve, write_curve
from export.release.documents import (
    card_parts,
    demo_part,
    read_documents,
    read_part,
    results_part,
    with_parts,
)
from export.release.judgement import comparison, objections
from export.release.measurement import Reports, measure
from export.release.placement import put_all_in_place
from training.checkpoint import TrainedModel, keep_language_model, save_model
from training.recipe import Recipe, load_recipe

BUNDLE, WEIGHTS = "asr/models/en", "data/model"
CURVE, PICTURE = "data/learning_curve.jsonl", "data/learning_curve.svg"
GOLDEN = "data/golden/model"
SAMPLES = "data/samples"


@dataclass(frozen=True)
class ReleaseOptions:
    """What to release, and what to measure it on."""

    run: Path  # folder of a finished run: final/ and journal.jsonl
    data: Path  # folder that the recipe's manifests are relative to
    recipe: Path  # its development sets are measured, and the card names it
    commit: str  # of the code that measures
    root: Path = Path()  # the checkout whose model is replaced
    heard_hours: float | None = None  # by the model, in place of what its file says
    limit: int | None = None  # utterances of each manifest, for a rehearsal: nothing is written


def release(options: ReleaseOptions, console: Console) -> None:
    """Export the model of a run, verify and measure it, and put it in place if it is better.

    Nothing in the checkout changes before everything that will change is complete beside it.

    Raises:
        ExportError: the model is refused, or can't be exported, or the checkout lacks something.
        AsrError: the data, the recipe or the present model can't be read.
    """
    report = functools.partial(console.print, soft_wrap=True, markup=False)
    root = options.root
    current = open_bundle(root / BUNDLE)
    recipe = load_recipe(options.recipe)
    sets = _development_sets(recipe, options.data, options.limit)
    noises = _held_out_noises(recipe, options.data)
    trained = _load_trained(options)
    old_curve = read_curve(root / CURVE)
    curve = extended(old_curve, options.run / "journal.jsonl", trained.heard_hours)
    read_documents(root)  # what is missing there is better said now
    report(f"{options.run}: its model has heard {trained.heard_hours:.1f} h of audio")
    with _staging(root) as staging:
        weights = staging / WEIGHTS
        # The bundle is made of the very file that will lie beside it.
        save_model(weights, trained.model, trained.tokenizer, heard_hours=trained.heard_hours)
        for folder in (root / WEIGHTS, options.run / "final"):  # its own goes before
            keep_language_model(folder, weights)
        contents = verified_contents(weights, current.name, report)
        measured = write_bundle(staging / "measured", contents)
        reports = measure(measured.path, sets, console)
        _judge(current.card, reports, options, report)
        recognizer = load(measured.path)
        speechless = hear_speechless(recognizer, noises)
        report(f"{speechless}")
        card = _card(current.card, reports, speechless, recognizer, options, trained.heard_hours)
        card["export"] = contents.card["export"]
        bundle = write_bundle(
            staging / BUNDLE, replace(contents.with_precisions(["int8"]), card=card)
        )
        _check_same_graphs(bundle, measured)
        speech = read_recordings(read_manifest(root / SAMPLES / "manifest.jsonl"))
        write_model_vectors(staging / GOLDEN, bundle, measured, *speech)
        write_curve(staging / CURVE, curve)
        (staging / PICTURE).write_text(picture(curve, list(card["wer"])), encoding="utf-8")
        documents = _write_documents(staging, root, card, curve, _demo(recognizer, root))
        if options.limit is not None:
            report(f"a rehearsal with --limit {options.limit}: nothing was written")
            return
        put_all_in_place(
            [BUNDLE, WEIGHTS, GOLDEN, CURVE, PICTURE, *documents],
            staging,
            root,
            staging / "replaced",
        )
    report(f"released: {BUNDLE}, {WEIGHTS}, {GOLDEN}, {CURVE}, {PICTURE}, {', '.join(documents)}")


def _development_sets(recipe: Recipe, data: Path, limit: int | None) -> dict[str, Manifest]:
    sets = {}
    for dev in recipe.data.dev:
        paths = sorted(data.glob(dev.manifests))
        if not paths:
            raise ExportError(f"{data}: no manifest {dev.manifests}, of the set {dev.name}")
        sets[dev.name] = read_corpora(paths, dev.split, limit)
    return sets


def _held_out_noises(recipe: Recipe, data: Path) -> list[Path]:
    if recipe.data.noise is None:
        return []
    return [noise for noise in sorted(data.glob(recipe.data.noise)) if is_held_out(noise)]


def _load_trained(options: ReleaseOptions) -> TrainedModel:
    trained = TrainedModel.load(options.run / "final")
    if options.heard_hours is not None:
        trained = replace(trained, heard_hours=options.heard_hours)
    if math.isnan(trained.heard_hours):
        raise ExportError(
            f"{options.run / 'final'} does not say how many hours of audio its model has heard, "
            "in this run and the ones before; name them: HEARD_HOURS=... (--heard-hours)"
        )
    return trained


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Yield a temporary folder on the disk of the checkout, so that renaming is enough."""
    folder = Path(tempfile.mkdtemp(prefix=".release-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _judge(
    card: Mapping[str, Any],
    reports: Mapping[str, Reports],
    options: ReleaseOptions,
    report: Callable[[str], None],
) -> None:
    """Raise ExportError if the figures don't suffice; a rehearsal has none that could be judged."""
    lines = comparison(card, reports)
    found = objections(card, reports) if options.limit is None else []
    if found:
        refusal = [f"{options.run} is refused, and the built-in model stays:", *found]
        raise ExportError("\n  ".join([*refusal, "its figures:", *lines]))
    for line in lines:
        report(line)


def _card(
    before: Mapping[str, Any],
    reports: Mapping[str, Reports],
    speechless: Speechless,
    recognizer: Recognizer,
    options: ReleaseOptions,
    heard_hours: float,
) -> dict[str, Any]:
    """Return the card with new figures; the texts on it stay."""
    return {
        **before,
        "training_hours_seen": round(heard_hours, 1),
        "recipe": options.recipe.as_posix(),
        "wer_conditions": (
            f"int8, chunks of {recognizer.chunk_ms} ms, {recognizer.search}, development sets"
        ),
        "wer": {
            name: _card_row(name, reports)
            | {"description": before["wer"].get(name, {}).get("description", "")}
            for name in reports["int8"]
        },
        "speechless": speechless.figures(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": options.commit,
    }


def _card_row(name: str, reports: Mapping[str, Reports]) -> dict[str, Any]:
    report = reports["int8"][name]
    errors = report.errors
    return {
        "wer": round(errors.rate, 4),
        "ci95": [round(end, 4) for end in report.interval()],
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
        "words": errors.words,
        "utterances": len(report.scores),
        "fp32_wer": round(reports["fp32"][name].errors.rate, 4),
        "one_pass_wer": round(reports["one pass"][name].errors.rate, 4),
        "greedy_wer": round(reports["greedy"][name].errors.rate, 4),
    }


def _check_same_graphs(bundle: Bundle, measured: Bundle) -> None:
    for name in bundle.graphs("int8").names:
        if bundle.files[name] != measured.files[name]:
            raise ExportError(f"{name} is not the file that was measured; this is a defect here")


def _demo(recognizer: Recognizer, root: Path) -> dict[str, str]:
    """Return the text of each sample, by its path as a user in the checkout names it."""
    files = sorted((root / SAMPLES).glob("*.flac"))
    return {f"{SAMPLES}/{file.name}": recognizer.transcribe(file).text for file in files}


def _write_documents(
    staging: Path,
    root: Path,
    card: Mapping[str, Any],
    curve: Sequence[Point],
    demo: Mapping[str, str],
) -> list[str]:
    """Write the documents with their new parts to `staging`; return their names."""
    documents = read_documents(root)  # again: people edit them while a model is measured
    results = read_part(documents["data/RESULTS.md"], "results")
    contents = {
        **card_parts(card, curve),
        "demo": demo_part(demo),
        "results": results_part(results, card),
    }
    for name, text in with_parts(documents, contents).items():
        (staging / name).write_text(text, encoding="utf-8")
    return list(documents)

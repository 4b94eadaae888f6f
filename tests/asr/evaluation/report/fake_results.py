"""Results of every kind, as the commands write them, with made-up figures."""

import json
import math
from pathlib import Path
from typing import Any

ENVELOPE: dict[str, Any] = {
    "schema_version": 1,
    "version": "0.1.0",
    "commit": "0123456789abcdef0123456789abcdef01234567-dirty",
    "command": "asr eval <script>alert(1)</script>/manifest.jsonl",
    "date": "2026-11-21T18:02:15+00:00",
    "machine": {
        "platform": "Linux-6.1-x86_64",
        "processor": "x86_64 AMD EPYC",
        "cpus": 2,
        "usable_cpus": 2,
    },
    "engine": "onnxruntime 1.31.1",
    "model": {"name": "en", "sha256": "a3e4", "parameters": 4_903_456},
    "precision": "int8",
    "chunk_ms": 320,
    "threads": 1,
}

EVAL = ENVELOPE | {
    "manifests": ["corpora/bread & butter/manifest.jsonl"],
    "split": "dev",
    "limit": None,
    "complete": True,
    "wer": 0.419,
    "ci95": [0.404, 0.435],
    "ins": 431,
    "del": 486,
    "sub": 3175,
    "words": 9758,
    "utterances": 400,
    "cer": 0.17,
    "ser": 0.98,
    "wer_open_asr": None,
    "unavailable": {"wer_open_asr": "whisper-normalizer is not installed"},
    "rtf": 0.0143,
    "peak_rss_mb": 92.4,
    "audio_s": 3600.0,
    "by": {
        "speaker": [
            {"value": value, "wer": wer, "ins": 1, "del": 2, "sub": 3, "words": 40, "utterances": 4}
            for value, wer in (("<b>ls1069</b>", 0.6), (None, 0.3))
        ]
    },
    "skipped": [{"id": "lost|one", "reason": "no audio file lost.wav"}],
    "rows": [
        {
            "id": "<i>first</i>",
            "reference": "the cat sat down",
            "hypothesis": "the hat sat it",
            "ins": 0,
            "del": 0,
            "sub": 2,
        },
        {"id": "right", "reference": "yes", "hypothesis": "yes", "ins": 0, "del": 0, "sub": 0},
    ],
}


def row(value: float | None, unit: str = "", **others: Any) -> dict[str, Any]:
    reason = None if value is not None else "no power counter on this machine"
    known = {"value": value, "unit": unit, "reason": reason, "spread": None, "n": 1, "source": None}
    return known | others


BENCH = ENVELOPE | {
    "kind": "bench",
    "command": "asr bench --report bench.json",
    "sources": ["data/samples/manifest.jsonl"],
    "rows": {
        "wer": row(0.419),
        "ci95_low": row(0.404),
        "ci95_high": row(0.435),
        "size_mb": row(5.5, "MB"),
        "params": row(4_903_456),
        "rtf": row(0.0132, spread=[0.0129, 0.0141], n=3),
        "chunk_ms_p50": row(4.1, "ms"),
        "chunk_ms_p95": row(5.4, "ms"),
        "chunk_ms_p99": row(7.9, "ms"),
        "share_features": row(0.12),
        "share_encoder": row(0.74),
        "share_predictor": row(0.02),
        "share_joiner": row(0.07),
        "share_search": row(0.05),
        "response_latency_ms_p50": row(61.0, "ms"),
        "rss_peak_mb": row(93.1, "MB", source="fresh process"),
        "state_bytes": row(1_184_000, "bytes"),
        "energy_mj_per_audio_s": row(None, "mJ/s"),
        "energy_modelled_mj_per_audio_s": row(9.4, "mJ/s", source="modelled"),
    },
    "chunk_ms_histogram": {
        "edges_ms": [3.0 + 0.25 * i for i in range(33)],
        "counts": [round(400 * math.exp(-(((i - 5) / 3) ** 2))) + (i == 20) for i in range(32)],
    },
    "operators": {
        "by_type": [{"name": "MatMul<int8>", "calls": 900, "ms": 12.5, "share": 0.61}],
        "by_module": [{"name": "encoder/attention", "calls": 90, "ms": 4.5, "share": 0.2}],
    },
}

SUSTAINED = ENVELOPE | {
    "kind": "sustained",
    "command": "asr bench --sustained 15 --report sustained.json",
    "rows": {"rtf_first_min": row(0.0131), "rtf_last_min": row(0.0133), "rtf_cv": row(0.04)},
    "samples": [
        {
            "t": float(t),
            "rtf": 0.013 + 0.0008 * math.sin(t / 9) + 0.000004 * t,
            "rss_mb": 92.0,
            "temp_c": 45 + 12 * (1 - math.exp(-t / 90)),
            "freq_mhz": None,
            "power_w": None,
        }
        for t in range(1, 301)
    ],
}


def _variant(name: str, wer: float | None, mb: float, ms: float, mj: float) -> dict[str, Any]:
    return {
        "name": name,
        "model": "en",
        "precision": name.split()[0],
        "engine": "onnx",
        "threads": 1,
        "chunk_ms": 320,
        "file_mb": mb,
        "step_ms_p50": ms,
        "step_ms_p95": 1.4 * ms,
        "rtf": ms / 320,
        "load_ms": 140.0,
        "peak_rss_mb": 80.0 + mb,
        "wer": wer,
        "wer_delta": None if wer is None else wer - 0.418,
        "nodes": 1320,
        "step_ratio": ms / 6.1,
        "energy_modelled_mj_per_audio_s": mj,
        "reasons": {"wer": "not asked for", "wer_delta": "not asked for"} if wer is None else {},
    }


MATRIX = ENVELOPE | {
    "kind": "matrix",
    "command": "asr bench --matrix matrix.yaml --report matrix.json",
    "variants": [
        _variant("fp32 plain", 0.418, 19.8, 6.1, 31.0),
        _variant("int8 plain", 0.419, 5.6, 4.4, 9.4),
        _variant("int8 fused", 0.4195, 5.5, 2.3, 8.1),
        _variant("int4 groups", 0.427, 3.4, 2.9, 6.2),
        _variant("int2", None, 2.0, 2.5, 4.0),
    ],
    "roofline": {
        "bandwidth_gb_s": 12.0,
        "int8_gmac_s": 110.0,
        "fp32_gmac_s": 38.0,
        "variants": [
            {
                "name": "int8 fused",
                "mb_per_step": 5.5,
                "mmac_per_step": 38.0,
                "bound_ms": 0.46,
                "bound_by": "memory",
                "achieved": 0.2,
            }
        ],
    },
}

STRESS = ENVELOPE | {
    "command": "asr bench --stress --hogs 8 --report stress.json",
    "recordings": ["data/samples/manifest.jsonl"],
    "hogs": 8,
    "budget_rtf": 0.0238,
    "ungoverned_rtf": 0.0553,
    "rtf_last_min": 0.0184,
    "lost_audio_s": 0.0,
    "moves": 3,
    "max_queue_s": 1.2,
    "peak_memory_mb": 98.0,
    "broken": [],
    "refused": None,
    "ladder": [],
    "series": [
        {"t": float(t), "rtf": None if t < 2 else 0.019 + 0.03 * math.exp(-t / 9)}
        for t in range(1, 121)
    ],
}


def _peer(name: str, wer: float, block_ms: float, mb: float, reason: str | None = None) -> Any:
    head = {"name": name, "module": "", "options": {}, "reason": reason}
    if reason is not None:
        return head
    return head | {
        "runs_on": f"{name} 1.0",
        "model": f"model of {name}",
        "wer": wer,
        "ci95": [wer - 0.03, wer + 0.03],
        "ins": 1,
        "del": 2,
        "sub": 3,
        "rtf": block_ms / 300,
        "rtf_spread": [block_ms / 320, block_ms / 290],
        "blocks_cpu_rtf": block_ms / 310,
        "block_ms_mean": block_ms,
        "block_ms_p50": block_ms,
        "block_ms_p95": 1.5 * block_ms,
        "block_ms_p99": 2 * block_ms,
        "finish_ms_p50": 3.0,
        "load_s": 0.4,
        "load_s_spread": [0.35, 0.5],
        "base_rss_mb": 32.0,
        "load_rss_mb": 60.0 + mb,
        "peak_rss_mb": 70.0 + mb,
        "model_mb": mb,
        "rows": [],
    }


PEERS = ENVELOPE | {
    "kind": "peers",
    "command": "asr peers manifest.jsonl --report peers.json",
    "manifests": ["dev/manifest.jsonl"],
    "split": None,
    "complete": True,
    "block_ms": 320,
    "loads": 3,
    "utterances": 40,
    "words": 700,
    "audio_s": 300.0,
    "peers": [
        _peer("Earshot", 0.42, 3.4, 5.5),
        _peer("sherpa-onnx", 0.421, 4.2, 5.5),
        _peer("PocketSphinx", 0.55, 80.0, 37.0),
        _peer("PyTorch", 0, 0, 0, reason="its weights were not named: --checkpoint DIR"),
    ],
    "time_ratios": {
        "sherpa-onnx": {
            "wall": {"median": 0.81, "ci95": [0.78, 0.85]},
            "cpu": {"median": 0.79, "ci95": [0.77, 0.82]},
        }
    },
    "skipped": [],
}


def _trial(precision: str, chunk_ms: int, wer: float | None, rtf: float, front: bool) -> Any:
    measured = wer is not None
    return {
        "precision": precision,
        "engine": "onnx",
        "threads": 1,
        "chunk_ms": chunk_ms,
        "wer": wer,
        "ci95": [wer - 0.02, wer + 0.02] if wer is not None else None,
        "words": 700 if measured else None,
        "rtf": rtf if measured else None,
        "latency_ms": chunk_ms + 38 + 1000 * rtf if measured else None,
        "memory_mb": 90.0 if measured else None,
        "load_s": 0.3 if measured else None,
        "on_front": front,
        "given_up": None if measured else "its chunk alone makes a latency of 1318 ms",
    }


TUNE = ENVELOPE | {
    "kind": "tune",
    "command": "asr tune manifest.jsonl --report tune.json",
    "complete": True,
    "budget": {"rtf": 0.05, "memory_mb": None, "latency_ms": 1000.0},
    "chosen": {"precision": "int8", "engine": "onnx", "threads": 1, "chunk_ms": 640},
    "trials": [
        _trial("int8", 160, 0.441, 0.021, True),
        _trial("int8", 320, 0.42, 0.013, True),
        _trial("int8", 640, 0.412, 0.009, True),
        _trial("int8", 1280, None, 0.0, False),
        _trial("fp32", 160, 0.443, 0.03, False),
        _trial("fp32", 320, 0.42, 0.02, False),
        _trial("fp32", 640, 0.411, 0.015, True),
    ],
    "skipped": [],
}

LOSS = {
    key: ENVELOPE[key] for key in ("schema_version", "version", "commit", "date", "machine")
} | {
    "kind": "loss",
    "command": "asr-train bench-loss --report loss.json",
    "variants": [
        {
            "name": name,
            "batch": 8,
            "frames": 250,
            "tokens": 40,
            "vocab": 500,
            "seconds": seconds,
            "spread": [seconds, 1.1 * seconds],
            "peak_mb": mb,
        }
        for name, seconds, mb in (("full", 0.95, 1200.0), ("pruned", 0.14, 210.0))
    ],
}

ALL = {
    "eval": EVAL,
    "bench": BENCH,
    "matrix": MATRIX,
    "sustained": SUSTAINED,
    "stress": STRESS,
    "peers": PEERS,
    "tune": TUNE,
    "loss": LOSS,
}


def write_results(folder: Path, *kinds: str) -> list[Path]:
    """Write results of these kinds, all of them without any, and return their files."""
    paths = []
    for kind in kinds or ALL:
        paths.append(folder / f"{kind}.json")
        paths[-1].write_text(json.dumps(ALL[kind]), encoding="utf-8")
    return paths

"""Time per chunk on one thread, as `make bench-android` measures the JVM's beside it.

    python -m tests.chunk_times [BUNDLE [CHUNK_MS [SECONDS]]]

A block of one chunk at a time, from samples to events; the first 20 s of audio don't count. The
same as android_demo/core/src/test/kotlin/earshot/Benchmark.kt does.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime

import asr
from asr.bundle import builtin_bundle_path

WARM_UP_S = 20


def main(bundle: str = str(builtin_bundle_path()), chunk: str = "320", seconds: str = "60") -> None:
    with np.load("data/golden/model/recordings.npz") as recordings:
        speech = np.concatenate(list(recordings.values()))
    chunk_ms = int(chunk)
    recognizer = asr.load(bundle, chunk_ms=chunk_ms)
    stream = recognizer.stream()
    warm_up = 1000 * WARM_UP_S // chunk_ms
    times = []
    for number in range(warm_up + 1000 * int(seconds) // chunk_ms):
        at = np.arange(number * chunk_ms * 16, (number + 1) * chunk_ms * 16) % len(speech)
        block = speech[at]
        started = time.perf_counter()
        stream.accept(block)
        times.append(1000 * (time.perf_counter() - started))
    ranked = sorted(times[warm_up:])
    row = {
        "runtime": "python",
        "onnxruntime": onnxruntime.__version__,
        "precision": recognizer.precision,
        "chunk_ms": chunk_ms,
        "chunks": len(ranked),
        "p50_ms": round(ranked[len(ranked) // 2], 3),
        "mean_ms": round(statistics.mean(ranked), 3),
        "p95_ms": round(ranked[len(ranked) * 95 // 100], 3),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Golden vectors: what this recogniser makes of given input, for other implementations of it.

`data/golden` is small enough to be kept with the code. Two implementations are tested against it:
this one (tests/export/test_golden_vectors.py) and the Kotlin one (android_demo/core), so a change
in one that the other lacks fails the build. `python -m export.golden_vectors write` makes all of
it; `make release-model` makes `model/` anew.

    model/recordings.npz    NAME: a recording, int16 (n,), 16 kHz
    model/features.npz      NAME.samples, float32 (n,), and NAME.frames, float32 (T, 80)
    model/encoder.npz       features (T, 80); PRECISION: what the encoder makes of them by chunks
    model/streams.json      streams of recordings and silence; their events, by precision
    scripts/segments.json.gz    what a search finds, frame by frame; the events and the result
    scripts/gate.json.gz        levels of sound; how much the silence gate lets be skipped
    scripts/governor.npz        how much dearer than calibrated computing is, and queues: meters
    scripts/governor.json.gz    budgets and ladders; every decision that the meters lead to
    scripts/admissions.json.gz  profiles and budgets; how a stream may run, or why not

`scripts/` needs no model. An event is its fields and its `type`.
"""

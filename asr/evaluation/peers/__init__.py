"""Other recognisers beside this one: the same recordings, normaliser and clock, one thread each.

A peer is a module with `load(**options) -> asr.evaluation.isolated.Loaded`, which is imported in a
process of its own; `comparison.py` runs them side by side.
"""

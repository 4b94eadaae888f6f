"""A trained model becomes a bundle that a device runs."""

import asr  # noqa: F401 - before any module of this package: it turns onnxruntime's telemetry off

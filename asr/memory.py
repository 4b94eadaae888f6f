"""The memory of this process: how much it holds, and giving back what it doesn't need."""

import ctypes
import gc

from asr.evaluation.meters import peak_rss_mb, rss_mb


def resident_mb() -> float:
    """Resident memory now, in MB (10^6 bytes); where the system tells no such thing, its peak."""
    try:
        return rss_mb()
    except OSError:
        return peak_rss_mb()


def trim_heap() -> None:
    """Give the free pages of the heap back to the system, where the C library can (glibc).

    Freed memory stays with the process otherwise. It takes about a millisecond.
    """
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)

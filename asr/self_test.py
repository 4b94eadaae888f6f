"""The golden self-test of a model, once on each machine.

A runtime that miscomputes on a chip does so every time, and one that computed right goes on doing
so until it, the model or the machine is another: that is what a profile holds for (`asr.profile`).
So the first load tests, and keeps what it found, with what loading cost. Where nothing can be kept
every load tests: it costs 30 ms, and nobody need be told.
"""

import contextlib
from dataclasses import asdict, dataclass

from asr.bundle import Bundle, GoldenErrors, GraphFiles
from asr.engines import Engine
from asr.profile import ProfileKey, read_section, write_section
from asr.schema import SchemaError, check_keys, read_dataclass

SECTION = "self_test"  # of the profile


@dataclass(frozen=True, slots=True)
class LoadCost:
    """What it took to open the graphs of a model."""

    ms: float
    mb: float  # that the process grew by, the engine's own code included; 0: it shrank meanwhile


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the first load of a model on this machine found."""

    errors: GoldenErrors
    cost: LoadCost


def verify_once(
    bundle: Bundle, graphs: GraphFiles, engine: Engine, key: ProfileKey, cost: LoadCost
) -> SelfTest:
    """Run the self-test if this machine has not passed it yet; opening `engine` had this `cost`.

    Raises BundleError if the machine computes something else than the exporting one did.
    """
    known = read_self_test(key)
    if known is not None:
        return known
    from asr.engines.golden import verify_golden  # here: only the first load needs it

    found = SelfTest(verify_golden(bundle, engine, graphs.precision), cost)
    with contextlib.suppress(OSError):
        write_section(key, SECTION, asdict(found))
    return found


def read_self_test(key: ProfileKey) -> SelfTest | None:
    """Return what is known; None if nothing is."""
    content = read_section(key, SECTION)
    try:
        check_keys(content, ["errors", "cost"], where=SECTION)
        return SelfTest(
            read_dataclass(GoldenErrors, content["errors"], "errors"),
            read_dataclass(LoadCost, content["cost"], "cost"),
        )
    except SchemaError:
        return None

"""A modelled energy, for machines without a meter: never to be mixed with a measured one.

The method is that of Li et al., "Breaking Down Power Barriers in On-Device Streaming ASR" (arXiv
2402.13076): each component costs its bytes times its invocations in a second of audio times the
energy of a byte where it lives, plus its arithmetic. The encoder is invoked once a chunk, the
joiner once a frame and, behind each emitted token, once more for what is left of the chunk, the
predictor once a token. That is one pass of greedy search: what more hypotheses and a second pass
cost is in the measured figures only.

The constants are Horowitz's for 45 nm at 0.9 V ("Computing's Energy Problem", ISSCC 2014, figure
1.1.9): old, but published, and their ratios are what counts. So the figure compares models and
settings with each other, and is not what any device will draw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from asr.bundle import Bundle
from asr.evaluation.bench.rows import Row, figure, not_available
from asr.evaluation.cost.costs import COMPONENTS, call_costs, weight_bytes

DRAM_PJ_PER_BYTE = 1300 / 8
"""The lower end of 1.3 to 2.6 nJ for 64 bits."""

LOCAL_PJ_PER_BYTE = 100 / 8
"""A cache of 1 MB: 100 pJ for 64 bits."""

LOCAL_BYTES = 1_000_000
"""What stays on the chip between calls: the components that fit, the most often called first."""

INT8_MAC_PJ = 0.2 + 0.1
"""An 8 bit product, and a 32 bit sum."""

FLOAT_MAC_PJ = 3.7 + 0.9
"""A 32 bit floating point product, and sum."""

_UNIT = "mJ/s of audio"


@dataclass(frozen=True, slots=True)
class ComponentEnergy:
    """Of one network, in a second of audio."""

    invocations: float
    local: bool  # its weights stay on the chip
    memory_bytes: float
    macs: float
    millijoules: float


def invocations(bundle: Bundle, chunk_frames: int, tokens_per_s: float) -> dict[str, float]:
    """Return the calls a second of audio; of the joiner, frames that are joined.

    A token is followed by joining the rest of its chunk again, half a chunk on average.
    """
    frame_s = bundle.streaming.subsampling_factor * bundle.features.frame_shift_ms / 1000
    frames_per_s = 1 / frame_s
    return {
        "encoder": frames_per_s / chunk_frames,
        "predictor": tokens_per_s,
        "joiner": frames_per_s + tokens_per_s * chunk_frames / 2,
    }


def model_energy(
    bundle: Bundle, precision: str, chunk_frames: int, tokens_per_s: float
) -> dict[str, ComponentEnergy]:
    """Return the modelled energy of each network. Raises ValueError for an unknown precision."""
    costs = call_costs(bundle, precision, chunk_frames)
    calls = invocations(bundle, chunk_frames, tokens_per_s)
    mac_pj = INT8_MAC_PJ if weight_bytes(precision) <= 1 else FLOAT_MAC_PJ
    room = float(LOCAL_BYTES)
    result: dict[str, ComponentEnergy] = {}
    for name in sorted(COMPONENTS, key=lambda name: -calls[name]):
        cost = costs[name]
        local = cost.weight_bytes + cost.state_bytes <= room
        room -= (cost.weight_bytes + cost.state_bytes) if local else 0
        joined = chunk_frames if name == "joiner" else 1  # frames that share a reading of weights
        read = calls[name] * (cost.weight_bytes / joined + cost.state_bytes)
        macs = calls[name] * cost.macs
        byte_pj = LOCAL_PJ_PER_BYTE if local else DRAM_PJ_PER_BYTE
        result[name] = ComponentEnergy(
            calls[name], local, read, macs, (read * byte_pj + macs * mac_pj) * 1e-9
        )
    return result


def modelled_rows(energy: Mapping[str, ComponentEnergy]) -> dict[str, Row]:
    """Return the rows of a modelled energy, labelled as such."""
    rows = {
        "energy_modelled_mj_per_audio_s": figure(
            sum(part.millijoules for part in energy.values()), _UNIT, "modelled"
        )
    }
    for name in COMPONENTS:
        rows[f"energy_modelled_{name}_mj_per_audio_s"] = figure(
            energy[name].millijoules, _UNIT, "modelled"
        )
    dram = sum(part.memory_bytes for part in energy.values() if not part.local)
    rows["dram_bytes_per_audio_s"] = figure(round(dram), "bytes", "modelled")
    return rows


def no_modelled_rows(reason: str) -> dict[str, Row]:
    """Return the same rows without values."""
    names = [f"energy_modelled_{name}_mj_per_audio_s" for name in COMPONENTS]
    rows = {
        name: not_available(_UNIT, reason) for name in ["energy_modelled_mj_per_audio_s", *names]
    }
    return rows | {"dram_bytes_per_audio_s": not_available("bytes", reason)}

"""How many real-time streams a running server holds:

    asr serve --port 6006 --budget-rtf 0.3 --budget-latency-ms 1000 &
    python -m tests.asr.serving.many_streams http://127.0.0.1:6006/ --streams 20 --seconds 60

Each stream plays the samples in a loop, in blocks of 0.1 s at the speed of speech, and none begins
at the same time as another. It prints a JSON object: how many were taken, what the worst of them
cost by its own last status, and the server's memory for each.
"""

import argparse
import asyncio
import json
import random
import urllib.request
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.samples import SAMPLES, read_samples

_BLOCK = 1600


@dataclass
class Outcome:
    """What became of one stream."""

    status: dict | None = None  # the last one
    worst_rtf: float = 0.0  # over 10 s
    worst_behind_s: float = 0.0
    overruns: int = 0
    error: str | None = None


async def play(url: str, seconds: float, offset_s: float) -> Outcome:
    """Run one stream in real time."""
    outcome = Outcome()
    await asyncio.sleep(offset_s)
    loop = asyncio.get_running_loop()
    async with connect(url.replace("http", "ws", 1), proxy=None) as socket:
        listener = asyncio.create_task(listen(socket, outcome))
        with suppress(ConnectionClosed):  # the listener knows why
            audio = np.concatenate([read_samples(sample) for sample in SAMPLES]).astype("<f4")
            started = loop.time()
            for number in range(round(seconds * 16_000 / _BLOCK)):
                await asyncio.sleep(started + 0.1 * (number + 1) - loop.time())
                start = number * _BLOCK % (len(audio) - _BLOCK)
                await socket.send(audio[start : start + _BLOCK].tobytes())
            await socket.send("Done")
        await listener
    return outcome


async def listen(socket: ClientConnection, outcome: Outcome) -> None:
    """Keep what the server says of a stream, until it closes."""
    try:
        async for text in socket:
            if text != "Done!":
                note(json.loads(text), outcome)
    except ConnectionClosed as closed:
        outcome.error = outcome.error or str(closed)


def note(message: dict, outcome: Outcome) -> None:
    if "error" in message:
        outcome.error = message["error"]["message"]
    outcome.overruns += sum("over budget" in notice for notice in message.get("notices", ()))
    if status := message.get("status"):
        outcome.status = status
        outcome.worst_behind_s = max(outcome.worst_behind_s, status["behind_s"])
        if status["audio_s"] > 10:
            outcome.worst_rtf = max(outcome.worst_rtf, status["rtf"])


def resident_mb(url: str) -> float:
    with urllib.request.urlopen(f"{url}metrics") as answer:
        lines = answer.read().decode().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("process_resident_memory")]
    return float(value) / 1e6


async def run(url: str, streams: int, seconds: float) -> dict:
    before_mb = resident_mb(url)
    chance = random.Random(0)
    tasks = [asyncio.create_task(play(url, seconds, 2 * chance.random())) for _ in range(streams)]
    await asyncio.sleep(2 + 0.8 * seconds)
    held_mb = await asyncio.to_thread(resident_mb, url)
    outcomes = await asyncio.gather(*tasks)
    taken = [outcome for outcome in outcomes if outcome.error is None and outcome.status]
    refused = [outcome.error for outcome in outcomes if outcome.error]
    return {
        "streams": streams,
        "seconds": seconds,
        "taken": len(taken),
        "refused": len(refused),
        "why": refused[:1],
        "overruns": sum(outcome.overruns for outcome in taken),
        "worst_rtf": max((outcome.worst_rtf for outcome in taken), default=None),
        "worst_latency_ms": max((o.status["latency_ms"] for o in taken if o.status), default=None),
        "worst_behind_s": max((outcome.worst_behind_s for outcome in taken), default=None),
        "chunk_ms": sorted({o.status["chunk_ms"] for o in taken if o.status}),
        "memory_mb": round(held_mb, 1),
        "memory_mb_per_stream": round((held_mb - before_mb) / max(1, len(taken)), 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(run(options.url, options.streams, options.seconds)), indent=1))

"""Beam search: several hypotheses at a time, with a language model where there is one."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from asr.decoding.fusion import Fusion
from asr.decoding.hypothesis import BLANK, INITIAL_CONTEXT, UNK, Emission, Hypothesis
from asr.decoding.language_model import LmState
from asr.engines import Engine, Floats

BEAM = 20
"""Hypotheses that are kept after each frame."""

MARGIN = 6.0
"""Nats by which a hypothesis may be worse than the best."""

CERTAIN_BLANK = -0.02
"""Log-probability of blank, 2 % below certainty: the labels of such a frame are passed over."""

NOTHING_MARGIN = 2.0
"""Nats by which the first words must be likelier than that nobody has spoken, to be told: most
sounds are not speech."""

MOST_UNSTABLE = 48
"""Tokens at the end of the best hypothesis that may still change; before them, nothing may."""

_JOINED_FRAMES = 8
"""Frames that a context is joined with at once: it may be given up in the next one."""


@dataclass(slots=True, eq=False)
class _Node:
    """A token of one or more hypotheses, which share what comes before it."""

    before: "_Node | None"  # None: forgotten, or there was nothing
    emission: Emission | None  # None before the first token


@dataclass(slots=True, eq=False)
class _Path:
    """One hypothesis."""

    score: float
    last: _Node
    key: int  # the same for the same tokens
    context: tuple[int, int]
    lm_before: LmState | None  # the language model's, but for the last token: most are dropped soon
    fused: Floats | None = None  # (vocab_size,) what the language model adds; None: not asked yet
    lm_state: LmState | None = None  # behind the last token, once it was asked


class BeamSearch:
    """The most likely tokens by the sum over their alignments, at most one token a frame, `<unk>`
    never emitted. Implements `asr.decoding.hypothesis.Search`.

    Hypotheses of the same tokens are one, whose probabilities add up. Frames that are blank for
    certain cost next to nothing, and a context is joined with several frames at once, so that
    speech takes a joiner call for each token, as greedy search does, and not for each frame.
    """

    _root: _Node  # behind what was forgotten
    _paths: list[_Path]  # the best first

    def __init__(self, engine: Engine, fusion: Fusion | None = None, beam: int = BEAM) -> None:
        self._engine, self._fusion, self._beam = engine, fusion, beam
        self._frames = 0
        self._joined: dict[tuple[int, int], Floats] = {}  # log-probabilities of the frames at hand
        self._begin()

    @property
    def best(self) -> Hypothesis:
        """See `Search`. Stable is what all hypotheses share. It is empty while that nobody has
        spoken since the search began is nearly as likely."""
        nothing = (path for path in self._paths if path.last.emission is None)
        if any(path.score > -NOTHING_MARGIN for path in nothing):
            return Hypothesis([], stable=0)
        chain = self._chain(self._paths[0])
        stable = len(chain)
        for path in self._paths[1:]:
            of_path = {id(node) for node in self._chain(path)}
            while stable and id(chain[stable - 1]) not in of_path:
                stable -= 1
        emissions = [node.emission for node in chain if node.emission is not None]
        return Hypothesis(emissions, stable)

    def accept(self, encoder_out: Floats) -> None:
        """See `Search`."""
        for start in range(0, len(encoder_out), _JOINED_FRAMES):
            block = encoder_out[start : start + _JOINED_FRAMES]
            self._joined = {}
            for row in range(len(block)):
                self._step(block, row)
            self._frames += len(block)
        self._joined = {}
        self._give_up_the_old()

    def forget(self, count: int) -> None:
        """See `Search`."""
        if count:
            self._root = self._chain(self._paths[0])[count - 1]
            self._root.before = None

    def fork(self) -> "BeamSearch":
        """See `Search`."""
        fork = copy(self)
        fork._paths = [replace(path) for path in self._paths]  # they share their nodes
        return fork

    def skip(self, frames: int) -> None:
        """See `Search`."""
        self._frames += frames

    def reset(self) -> None:
        """See `Search`."""
        self._begin()

    def _begin(self) -> None:
        self._root = _Node(None, None)
        self._paths = [_Path(0.0, self._root, 0, INITIAL_CONTEXT, lm_before=None)]

    def _step(self, block: Floats, row: int) -> None:
        """Go on by the frame `row` of `block`."""
        log_probs = self._log_probs(block, row)
        blanks = log_probs[:, BLANK]
        grown: dict[int, _Path] = {}
        if blanks.min() <= CERTAIN_BLANK:
            grown = self._grown(log_probs, self._frames + row)
        for path, blank in zip(self._paths, blanks.tolist(), strict=True):
            path.score += blank
            same = grown.get(path.key)
            if same is None:
                grown[path.key] = path
            else:
                _merge(grown, path, same)
        self._paths = self._pruned(grown.values())

    def _pruned(self, paths: Iterable[_Path]) -> list[_Path]:
        """Return the best of the paths that differ in what they expect next, the best first.

        Of two with the same context and state none can overtake the other: they would take a place
        in the beam each, and what they differ in would not become stable.
        """
        kept: dict[tuple[tuple[int, int], LmState | None], _Path] = {}
        for path in sorted(paths, key=lambda path: -path.score):
            kept.setdefault((path.context, path.lm_before), path)
        # Relative scores: a stream may run for ever.
        best = next(iter(kept.values())).score
        for path in kept.values():
            path.score -= best
        return [path for path in kept.values() if path.score > -MARGIN][: self._beam]

    def _log_probs(self, block: Floats, row: int) -> Floats:
        """Return those of the frame `row` for the context of each path, `(paths, vocab_size)`."""
        missing = {path.context for path in self._paths} - self._joined.keys()
        if missing:
            contexts = sorted(missing)
            ahead = block[row:]
            predicted = np.concatenate([self._predict(context) for context in contexts])
            joined = self._engine.join(
                np.tile(ahead, (len(contexts), 1)), np.repeat(predicted, len(ahead), axis=0)
            )
            for number, context in enumerate(contexts):
                rows = joined[number * len(ahead) : (number + 1) * len(ahead)]
                self._joined[context] = rows  # up to the end of the block, wherever they begin
        ahead_of = len(block) - row
        return np.stack([self._joined[path.context][-ahead_of] for path in self._paths])

    def _predict(self, context: tuple[int, int]) -> Floats:
        return self._engine.predict(np.array([context], dtype=np.int64))

    def _grown(self, log_probs: Floats, frame: int) -> dict[int, _Path]:
        """Return the best of the paths with one more token, by their keys."""
        scores = log_probs + np.array([[path.score] for path in self._paths], dtype=np.float32)
        least = float(scores[:, BLANK].max()) - MARGIN
        if self._fusion:
            scores += np.stack([self._fused(path) for path in self._paths])
        scores[:, : UNK + 1] = -np.inf  # blank and <unk>
        flat = scores.ravel()
        count = min(self._beam, flat.size)
        chosen = np.argpartition(flat, -count)[-count:]
        grown: dict[int, _Path] = {}
        for index in chosen[np.argsort(-flat[chosen], kind="stable")].tolist():
            number, token = divmod(index, scores.shape[1])
            if flat[index] < least:
                break
            path = self._paths[number]
            emission = Emission(token, frame, float(log_probs[number, token]))
            key = hash((path.key, token))
            node, context = _Node(path.last, emission), (path.context[1], token)
            grown[key] = _Path(float(flat[index]), node, key, context, path.lm_state)
        return grown

    def _fused(self, path: _Path) -> Floats:
        assert self._fusion is not None
        if path.fused is None:
            path.lm_state = self._fusion.advance(path.lm_before, path.context[1])
            path.fused = self._fusion.scores(path.lm_state, path.context)
        return path.fused

    def _chain(self, path: _Path) -> list[_Node]:
        """Return the nodes of a path behind the root, which is forgotten."""
        chain: list[_Node] = []
        node: _Node | None = path.last
        while node is not None and node is not self._root:
            chain.append(node)
            node = node.before
        return chain[::-1]

    def _give_up_the_old(self) -> None:
        """Drop the hypotheses that differ from the best in a token which was long ago."""
        chain = self._chain(self._paths[0])
        if len(chain) > MOST_UNSTABLE:
            settled = chain[-MOST_UNSTABLE - 1]
            self._paths = [path for path in self._paths if settled in self._chain(path)]


def _merge(paths: dict[int, _Path], first: _Path, second: _Path) -> None:
    """Make one of two paths of the same tokens, with the times of the likelier."""
    better, worse = (first, second) if first.score >= second.score else (second, first)
    better.score = float(np.logaddexp(better.score, worse.score))
    paths[better.key] = better

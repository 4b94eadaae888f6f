"""The trained model in eager PyTorch, behind the interface of the device's engines.

So the runtime's own stream, search and features run over it, and a comparison with an exported
bundle shows what export and quantization change and nothing else. It is here, not in `asr`, because
`asr` imports neither torch nor this package; `asr peers` starts it by name, as a process.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.engines import Floats
from asr.evaluation.isolated import Loaded
from asr.features import FeatureConfig
from asr.stream import Stream
from training.checkpoint import WEIGHTS, load_model
from training.model import Transducer
from training.model.state import EncoderState, initial_state


class EagerEngine:
    """Runs a model in float32 on the CPU. Implements `asr.engines.Engine`."""

    def __init__(self, model: Transducer, left_frames: int) -> None:
        """`left_frames` is the left context of a stream, in encoder frames."""
        self._model = model.eval()
        self._initial_state = initial_state(model.config, batch=1, left_frames=left_frames)

    def initial_state(self) -> EncoderState:
        """See `Engine`."""
        return self._initial_state

    @torch.inference_mode()
    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        """See `Engine`."""
        out = self._model.encoder(torch.from_numpy(features)[None], state)
        return out.frames[0].numpy(), out.state

    @torch.inference_mode()
    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        """See `Engine`."""
        predicted = self._model.predictor(torch.from_numpy(contexts))
        result: Floats = predicted.squeeze(1).numpy()
        return result

    @torch.inference_mode()
    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        rows = torch.from_numpy(predictor_out).expand(len(encoder_out), -1)
        log_probs: Floats = self._model.joiner(torch.from_numpy(encoder_out), rows).numpy()
        return log_probs

    def release_memory(self) -> None:
        """See `Engine`; nothing is kept."""


def load(checkpoint: str, threads: int = 1) -> Loaded:
    """Load what `asr-train` wrote into the folder `checkpoint`, to stream with the chunks and the
    left context that a bundle of it has by default. Raises ExportError for a damaged one."""
    torch.set_num_threads(threads)
    folder = Path(checkpoint)
    model, pieces = load_model(folder)
    streaming = StreamingConfig()
    engine = EagerEngine(model, streaming.left_context_frames)

    def open_stream() -> Stream:
        return Stream(
            engine,
            GreedySearch(engine),
            pieces=tuple(pieces),
            features=FeatureConfig(),
            streaming=streaming,
        )

    return Loaded(
        open=open_stream,
        runs_on=f"PyTorch {torch.__version__}, eager",
        model=f"{folder.name} fp32, from its checkpoint",
        model_mb=(folder / WEIGHTS).stat().st_size / 1e6,
    )

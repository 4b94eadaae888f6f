"""The Conformer-transducer and the explicit state that it streams with."""

from training.model.config import SIZES, SUBSAMPLING, ModelConfig, sized
from training.model.encoder import ConformerBlock, ConformerEncoder, EncoderOutput
from training.model.joiner import FactorizedJoiner
from training.model.predictor import StatelessPredictor
from training.model.state import EncoderState, initial_state
from training.model.subsampling import subsampled_lengths
from training.model.transducer import Transducer

__all__ = [
    "SIZES",
    "SUBSAMPLING",
    "ConformerBlock",
    "ConformerEncoder",
    "EncoderOutput",
    "EncoderState",
    "FactorizedJoiner",
    "ModelConfig",
    "StatelessPredictor",
    "Transducer",
    "initial_state",
    "sized",
    "subsampled_lengths",
]

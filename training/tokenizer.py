"""Word pieces: text to token ids, and the token table of a bundle."""

import os
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from asr.decoding.hypothesis import BLANK as BLANK_ID
from asr.decoding.hypothesis import UNK as UNKNOWN_ID
from asr.errors import CorpusError

BLANK, UNKNOWN = "<blk>", "<unk>"


class Tokenizer:
    """A SentencePiece model whose first two pieces are the blank and the unknown."""

    def __init__(self, model_path: Path) -> None:
        self.model_path = model_path
        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(model_path))

    @property
    def pieces(self) -> list[str]:
        """The token table: the piece of each id."""
        return [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]

    @property
    def vocab_size(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text)
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._processor.decode(ids)
        return text


def train_tokenizer(texts: Iterable[str], vocab_size: int, model_path: Path) -> Tokenizer:
    """Train word pieces on normalised texts and write them to `model_path`.

    Raises CorpusError if the texts hold too few different words for `vocab_size`.
    """
    model_path.parent.mkdir(parents=True, exist_ok=True)
    prefix = model_path.with_suffix(".partial")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(prefix),
            vocab_size=vocab_size,
            model_type="bpe",
            character_coverage=1.0,
            pad_id=BLANK_ID,
            pad_piece=BLANK,
            unk_id=UNKNOWN_ID,
            unk_piece=UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            normalization_rule_name="identity",
            minloglevel=2,
        )
    except RuntimeError as error:
        raise CorpusError(
            f"no tokenizer of {vocab_size} pieces from these texts: {error}"
        ) from error
    Path(f"{prefix}.vocab").unlink()
    os.replace(f"{prefix}.model", model_path)
    return Tokenizer(model_path)

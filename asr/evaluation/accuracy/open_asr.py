"""The word error rate as the Open ASR leaderboard counts it, to stand beside its figures.

Both texts go through the English normaliser of Whisper (Radford et al., "Robust speech recognition
via large-scale weak supervision", 2022, appendix C), which writes numbers as digits, spells British
words as American, opens contractions and drops "uh". An utterance without words after that is left
out, and the errors are the plain edit distance.
https://github.com/huggingface/open_asr_leaderboard
"""

from collections.abc import Callable, Iterable

from asr.errors import AsrError
from asr.evaluation.accuracy.edit_distance import edit_distance


def open_asr_wer(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the word error rate of pairs of reference and hypothesis, as they were written.

    Raises AsrError where the normaliser is not installed, or leaves no word of any reference.
    """
    normalize = _normalizer()
    errors = words = 0
    for reference, hypothesis in pairs:
        spoken = normalize(reference).split()
        if spoken:
            errors += edit_distance(spoken, normalize(hypothesis).split())
            words += len(spoken)
    if words == 0:
        raise AsrError("whisper-normalizer leaves no word of any reference")
    return errors / words


def _normalizer() -> Callable[[str], str]:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise AsrError(
            "whisper-normalizer is not installed: pip install 'earshot-asr[eval]'"
        ) from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer

"""The errors that a user can cause. Commands print the message and exit with code 2."""


class AsrError(Exception):
    """Bad input or environment. The message says what was given, what was expected, what to do."""


class AudioError(AsrError):
    """Audio that can't be read, decoded or used."""


class BundleError(AsrError):
    """A model bundle that is missing, damaged, or of another version."""


class ManifestError(AsrError):
    """A manifest, or a row of it, that can't be used."""


class RecipeError(AsrError):
    """A training recipe with an unknown key or an impossible value."""


class CorpusError(AsrError):
    """A corpus with nothing usable in it."""


class ExportError(AsrError):
    """An export whose result is not equal to the model it came from."""

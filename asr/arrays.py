"""Arrays in a file of a bundle: a `.npz`, of which nothing is believed."""

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import BundleError


def read_arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays in the `content` of a `.npz`, by name; they take no more than that.

    Raises BundleError, which names `path`, for any other content, and for Python objects in it.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if sum(array.file_size for array in file.zip.infolist()) > len(content):
                raise ValueError("its arrays are compressed, to be larger than the file")
            arrays = dict(file)
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("not all in it are arrays")
            return arrays
    # MemoryError: of an array that claims to be larger than any memory.
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        MemoryError,
        OverflowError,
        SyntaxError,  # numpy reads the head of an array as Python
        tokenize.TokenError,
        RuntimeError,  # encrypted, or compressed by another method
        AttributeError,  # an array alone, which has no names
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise BundleError(f"{path}: can't be used: {error}; export the model again") from error

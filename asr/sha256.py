"""SHA-256 without OpenSSL.

`hashlib` loads the whole of OpenSSL: 3.5 MB of every process, where Python has the function built
in (the modules below, which its own `random` uses the same way). That takes 17 ms for the built-in
model where OpenSSL with the instructions of a new processor takes 3.
"""

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:  # a Python that was built without
        from hashlib import sha256

__all__ = ["sha256"]

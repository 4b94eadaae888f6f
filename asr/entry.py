"""The way into the commands that need an extra: what a user can mend is a message and exit code 2.

The `asr` command has its own, because it needs no extra.
"""

import sys
from collections.abc import Callable

from asr.errors import AsrError
from asr.whole_files import DISK_FULL

_OURS = ("asr", "training", "export")


def run_command(app: Callable[[], object], command: str, extra: str) -> None:
    """Run a typer app whose packages come with the extra `extra`."""
    try:
        app()
    except (AsrError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in DISK_FULL
        advice = "; make room, and give the same command again" if full else ""
        print(f"{command}: {error}{advice}", file=sys.stderr)
        raise SystemExit(2) from error
    except ModuleNotFoundError as error:
        if (error.name or "asr").split(".")[0] in _OURS:
            raise  # our own mistake, not a missing extra
        message = f"{command} needs {error.name}: pip install 'earshot-asr[{extra}]'"
        print(message, file=sys.stderr)
        raise SystemExit(2) from error

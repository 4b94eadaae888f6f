"""Puts several new files and folders in place, all of them or none."""

import os
from collections.abc import Sequence
from pathlib import Path


def put_all_in_place(names: Sequence[str], staging: Path, root: Path, replaced: Path) -> None:
    """Move `staging/NAME` to `root/NAME` for each name; what was there goes to the new `replaced`.

    Everything is on one disk, and nothing but renaming is left to do: milliseconds. If one fails,
    the ones before are undone. Only a kill within those milliseconds leaves a mixture.
    """
    os.sync()  # no name may be on the disk before its content
    done: list[str] = []
    try:
        for name in names:
            done.append(name)
            _rename(root / name, replaced / name, missing_ok=True)
            _rename(staging / name, root / name)
    except BaseException:
        for name in reversed(done):
            if not (staging / name).exists():
                _rename(root / name, staging / name)
            _rename(replaced / name, root / name, missing_ok=True)
        raise


def _rename(path: Path, to: Path, missing_ok: bool = False) -> None:
    if missing_ok and not path.exists():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    path.rename(to)

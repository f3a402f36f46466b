"""Names of unfinished files, and the removal of those that a killed process has left.

A replica's base path may be worked on by several processes, on several machines. So an unfinished file or directory
carries its owner's machine and process in its name, and is only removed once that process is gone.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from pathlib import Path

_UNFINISHED = re.compile(r"\.tmp-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}$")
_ELSEWHERE_SECONDS = 24 * 3600.0


def unfinished(directory: Path) -> Path:
    """A path in `directory` that no other process uses, hidden from TF Serving. Nothing is there yet."""
    return directory / f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def sweep(directory: Path) -> list[str]:
    """Removes what processes that are gone have left unfinished in a directory.

    Another machine's processes cannot be seen from here: theirs go once nobody has touched them for a day.

    Args:
        directory: may be missing.

    Returns:
        The names removed.
    """
    removed = []
    for path in sorted(directory.glob(".tmp-*")):
        owner = _UNFINISHED.match(path.name)
        if owner is not None and _is_gone(path, owner["host"], int(owner["pid"])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _is_gone(path: Path, host: str, pid: int) -> bool:
    if host != socket.gethostname():
        try:
            return time.time() - path.stat().st_mtime > _ELSEWHERE_SECONDS
        except FileNotFoundError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

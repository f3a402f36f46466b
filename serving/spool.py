"""A directory of mirrored requests: one side appends, the other takes whole files.

A file grows under the name `*.part` and becomes `*.jsonl` by a rename when it is full or old enough, so that
a reader never sees half a line and needs no place mark: what it has read it deletes. When nobody reads, the
oldest files go first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ranker.errors import UserError
from serving.mirrored import MirroredRequest, from_json, to_json


class SpoolWriter:
    """Appends mirrored requests to files of a directory.

    Args:
      directory: made if it does not exist.
      max_records: requests a file.
      max_age: seconds after which a file with at least one request is handed over.
      max_bytes: what the finished files may take together.

    Attributes:
      discarded: files deleted unread because the directory was full.

    Raises:
      UserError: the directory can't be made or written.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        max_records: int = 1000,
        max_age: float = 5.0,
        max_bytes: int = 256 << 20,
    ) -> None:
        self.directory = Path(directory)
        self.discarded = 0
        self._limits = (max_records, max_age, max_bytes)
        self._file: TextIO | None = None
        self._records = 0
        self._opened = 0.0
        self._sequence = 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in self.directory.glob("*.part"):
                _adopt(left)
        except OSError as error:
            raise UserError(f"{directory}: cannot use the spool directory: {error.strerror}") from None

    def __call__(self, request: MirroredRequest) -> None:
        """Appends one request."""
        if self._file is None:
            self._sequence += 1
            name = f"{time.time_ns():020d}-{os.getpid()}-{self._sequence:06d}.part"
            # Line by line, so that a killed process loses nothing it had finished.
            self._file = (self.directory / name).open("w", encoding="utf-8", buffering=1)
            self._records, self._opened = 0, time.monotonic()
        self._file.write(to_json(request) + "\n")
        self._records += 1
        if self._records >= self._limits[0]:
            self.hand_over()

    def tick(self) -> None:
        """Hands the growing file over if it is old enough; to be called now and then."""
        if self._file is not None and time.monotonic() - self._opened >= self._limits[1]:
            self.hand_over()

    def hand_over(self) -> None:
        """Finishes the growing file, if there is one."""
        if self._file is None:
            return
        part = Path(self._file.name)
        self._file.close()
        self._file = None
        part.rename(part.with_suffix(".jsonl"))
        self._make_room()

    def _make_room(self) -> None:
        sizes = [(path, path.stat().st_size) for path in finished(self.directory) if path.exists()]
        surplus = sum(size for _, size in sizes) - self._limits[2]
        for path, size in sizes:
            if surplus <= 0:
                return
            path.unlink(missing_ok=True)
            surplus -= size
            self.discarded += 1


def finished(directory: Path | str) -> list[Path]:
    """Returns the files that are ready to read, the oldest first."""
    return sorted(Path(directory).glob("*.jsonl"))


def read(path: Path) -> Iterator[MirroredRequest]:
    """Yields the requests of a finished file.

    Raises:
      UserError: a line is not a mirrored request.
    """
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from_json(line)


def _adopt(part: Path) -> None:
    # What a killed writer left: its last line may be half a line. Another gateway's growing file is not ours.
    owner = part.name.split("-")[1] if part.name.count("-") == 2 else ""
    if owner.isdigit() and int(owner) != os.getpid() and Path(f"/proc/{owner}").exists():
        return
    text = part.read_text(encoding="utf-8", errors="replace")
    part.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    part.rename(part.with_suffix(".jsonl"))

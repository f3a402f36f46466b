"""The proxy's end of the mirror process: starts it, feeds it, reads its counts, starts it again if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from dataclasses import asdict

from serving.gateway import frames
from serving.gateway.compare import Sampled
from serving.gateway.options import GatewayOptions

_MAX_BACKLOG = 64 << 20
_RESTART_PAUSE = 1.0


def arguments(options: GatewayOptions) -> str:
    """Returns what the process must know, as one argument."""
    mirror, tls = options.mirror, options.upstream_tls
    return json.dumps(
        {
            "deployment": asdict(options.deployment),
            "tls": None if tls is None else {key: value and str(value) for key, value in asdict(tls).items()},
            "mirror": asdict(mirror) | {"spool": str(mirror.spool)},
        }
    )


class MirrorLink:
    """Hands sampled calls to the mirror process and never waits for it.

    Args:
      options: the gateway's.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._argument = arguments(options)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._own: Counter[tuple[str, str, str]] = Counter()
        self._child: Counter[tuple[str, str, str]] = Counter()
        self._gauges: dict[str, float] = {}
        self._stopping = False

    async def start(self) -> None:
        """Starts the process."""
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    def offer(self, call: Sampled) -> None:
        """Sends a call on; drops and counts it if the process is gone or far behind."""
        pipe = self._process.stdin if self._process and self._process.returncode is None else None
        if pipe is None or pipe.is_closing() or pipe.transport.get_write_buffer_size() > _MAX_BACKLOG:
            self._own["dropped", "", "pipe"] += 1
            return
        pipe.writelines(frames.encode(call))

    def counts(self) -> Counter[tuple[str, str, str]]:
        """Returns (event, replica, code) counts of this and all earlier processes."""
        return self._own + self._child

    def gauges(self) -> dict[str, float]:
        """Returns the process's present numbers."""
        return self._gauges

    async def stop(self, seconds: float) -> None:
        """Lets the process finish what it has for at most this long."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), seconds)
            except asyncio.TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._watcher is not None:
            await self._watcher

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serving.gateway.mirror_process",
            self._argument,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def _watch(self) -> None:
        while True:
            await self._read_counts()
            if self._stopping:
                return
            self._own += self._child
            self._child = Counter()
            self._own["restarted", "", ""] += 1
            await asyncio.sleep(_RESTART_PAUSE)
            if self._stopping:
                return
            await self._spawn()

    async def _read_counts(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                self._child = Counter({tuple(key): number for *key, number in told["counts"]})
                self._gauges = told["gauges"]
        await process.wait()

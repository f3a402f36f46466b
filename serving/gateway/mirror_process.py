"""The mirror in a process of its own: it can neither hold up a caller nor take one down.

The parent writes frames to its standard input and reads lines of counts from its standard output.
End of input is the order to finish, so a parent that was killed leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

from serving.client.connection import Tls
from serving.deployment import Deployment, Replica
from serving.gateway import frames
from serving.gateway.breaker import Breaker
from serving.gateway.mirror import Mirror
from serving.gateway.upstream import Upstream
from serving.spool import SpoolWriter

# Callers first where cores are few: a tenth of the weight of a process of ordinary priority.
_NICENESS = 10
_REPORT = 0.5


async def work(told: dict[str, Any]) -> None:
    """Mirrors the calls that come in on standard input until its end."""
    tree, mirror_options = told["deployment"], told["mirror"]
    deployment = Deployment(
        tree["model_name"], tuple(Replica(**replica) for replica in tree["replicas"]), item=tree["item"]
    )
    tls = Tls(**told["tls"]) if told["tls"] else None
    deadline = mirror_options["deadline"]
    upstreams = {
        # Slower than the deadline is an error already; as slow as it counts against the replica.
        replica.name: Upstream(replica, tls, Breaker(), slow=deadline * 0.99)
        for replica in deployment.replicas
    }
    for upstream in upstreams.values():
        upstream.connect()
    sink = SpoolWriter(mirror_options["spool"], max_bytes=mirror_options["spool_bytes"])
    mirror = Mirror(
        upstreams,
        sink,
        model_name=deployment.model_name,
        item=deployment.item,
        features=mirror_options["features"],
        deadline=deadline,
        queue=mirror_options["queue"],
        workers=mirror_options["workers"],
    )
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), sys.stdin
    )
    report = asyncio.create_task(_report(mirror, sink))
    while (call := await frames.read(stream)) is not None:
        mirror.offer(call)
    await mirror.drain(2 * deadline)
    report.cancel()
    sink.hand_over()
    _print_counts(mirror, sink)
    for upstream in upstreams.values():
        await upstream.close()


async def _report(mirror: Mirror, sink: SpoolWriter) -> None:
    while True:
        await asyncio.sleep(_REPORT)
        with contextlib.suppress(OSError):
            sink.tick()
        _print_counts(mirror, sink)


def _print_counts(mirror: Mirror, sink: SpoolWriter) -> None:
    counts = [[*key, number] for key, number in mirror.counts.items()]
    counts.append(["discarded", "", "", sink.discarded])
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"counts": counts, "gauges": {"queue": mirror.waiting}}), flush=True)


def main() -> None:
    """Runs the process; its one argument is what `mirror_link.arguments` returned."""
    # Ctrl-C reaches the whole group; the parent says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(_NICENESS)
    asyncio.run(work(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()

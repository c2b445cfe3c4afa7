"""A virtual host as a process of its own: `python -m tests.bench.hostd SOCKET [PODS]`.

It serves the files of one node "n1" with so many pods and lets real time pass on it, until its standard input ends
(so it cannot outlive who started it). It says "ready" once the socket is there.
"""

from __future__ import annotations

import asyncio
import sys

from neap.common.host.remote import serve_hosts
from neap.common.runtime.clock import wall_clock
from tests.bench.samples import a_host

STEP = 0.25


async def serve(socket: str, pods: int) -> None:
    clock = wall_clock()
    host = a_host(pods, at=clock.now())

    async def live() -> None:
        while True:
            await asyncio.sleep(STEP)
            host.advance(clock.now())

    async with serve_hosts(socket, {"n1": host}):
        living = asyncio.ensure_future(live())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        living.cancel()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20))

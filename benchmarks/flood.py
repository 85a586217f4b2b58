"""How soon `headstart serve` answers a health probe while 500 clients send images at once, and come again when told to.

    python benchmarks/flood.py runs/photos photos/val

Each client opens a connection, sends an image, and waits as long as `Retry-After` says where it is refused; else it
sends the next one at once. A process of its own probes `/healthz` every 20 ms, each time on a new connection, as
Kubernetes does. All are on the cores of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from common import IMAGE_SUFFIXES, print_table
from serve import request, running

PAUSE_SECONDS = 0.02


def main() -> None:
    """Flood a server, and print how long the probes waited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run folder or model file")
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(*asyncio.run(probe(options.probe, options.seconds)))
        return
    files = [path.read_bytes() for path in sorted(options.images.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    with running("headstart", (sys.executable, "-m", "headstart", "serve", f"model={options.model}")) as server:
        probes = subprocess.Popen([*sys.orig_argv, "--probe", str(server.port)], stdout=subprocess.PIPE, text=True)
        statuses = asyncio.run(flood(server.port, files, options.clients, options.seconds))
        waits = sorted(map(float, probes.communicate()[0].split()))
    answers = ", ".join(f"{count:,} x {status or 'closed'}" for status, count in sorted(statuses.items()))
    share = [f"{waits[min(len(waits) - 1, int(part * len(waits)))]:.0f} ms" for part in (0.5, 0.99, 1.0)]
    print_table(("clients", "answers", "probes", "median", "p99", "longest"), [
        (str(options.clients), answers, str(len(waits)), *share),
    ])  # fmt: skip


async def flood(port: int, files: list[bytes], clients: int, seconds: float) -> Counter[int]:
    """Statuses of all answers; 0 where the connection was closed without one."""
    statuses, end = Counter[int](), time.monotonic() + seconds
    requests = [request("/v1/models/model/predict", content) for content in files]

    async def one(number: int) -> None:
        streams = None
        while time.monotonic() < end:
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", port)
                streams[1].write(requests[number % len(requests)])
                head = await streams[0].readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
                await streams[0].readexactly(int(fields[b"content-length"]))
            except (OSError, asyncio.IncompleteReadError):
                statuses[0] += 1
                streams = None
                continue
            statuses[int(head.split()[1])] += 1
            if fields.get(b"connection") == b"close":
                streams[1].close()
                streams = None
            await asyncio.sleep(float(fields.get(b"retry-after", 0)))

    await asyncio.gather(*map(one, range(clients)))
    return statuses


async def probe(port: int, seconds: float) -> list[float]:
    """Milliseconds of each probe."""
    waits, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        if b" 200 " not in await reader.readline():
            sys.exit("the server is not healthy")
        waits.append(1000 * (time.perf_counter() - begun))
        writer.close()
        await asyncio.sleep(PAUSE_SECONDS)
    return waits


if __name__ == "__main__":
    main()

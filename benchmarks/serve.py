"""How many images a second `headstart serve` answers, against the bound of the machine and against LitServe.

    pip install -e '.[serve]'
    python -m venv lit && lit/bin/pip install litserve onnxruntime pillow numpy python-multipart
    python benchmarks/serve.py runs/photos photos/val --rival-python lit/bin/python --json figures.json

It takes about three minutes: the sides take turns, in many short rounds, and each figure is the median over those
rounds in which other programs took at most a tenth of the cores ("rounds" in the table). Where there was none, it is
the median over all, and only the processor time an image can be compared: rates are what others leave. At the end it
says which targets are met.

The bound is what all cores could do if nothing but decoding and the model cost anything: threads of one process that
classify the same files. Each client keeps one connection and sends the next image when the answer to the last is there;
all clients are in one process, on the same cores, whose time is told too.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from common import IMAGE_SUFFIXES, MAX_OTHER_LOAD, cores, machine, percent, print_table, system_seconds

CLIENTS = (1, 8, 64)
START_SECONDS = 120
SHARE_OF_BOUND = 0.8  # to be reached at AT clients
AT = 8
BOUNDARY = "headstart-benchmark"


@dataclass(frozen=True)
class Load:
    """What was answered under a load.

    Attributes:
        side: Who answered.
        clients: Connections at once.
        rate: Images a second.
        p50_ms: Half of the answers took no longer.
        p99_ms: All but one in a hundred took no longer.
        cpu_ms: Processor time of the side's own processes for each image; others on the machine lengthen it least.
        others: Share of all cores that was taken by neither the server nor the clients, where that is known.
        rounds: Of how many undisturbed rounds these are the medians.
    """

    side: str
    clients: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others: float | None
    rounds: int = 1


def main() -> None:
    """Measure in turns, tell; exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run folder or model file")
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--rival-python", help="of an environment with LitServe; without it there is no rival")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--flat", type=int, default=0, help="also send so many requests, and tell the memory")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    model = options.model / "model.onnx" if options.model.is_dir() else options.model
    files = [path.read_bytes() for path in sorted(options.images.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    sides: dict[str, Sequence[str]] = {"headstart": (sys.executable, "-m", "headstart", "serve", f"model={model}")}
    if options.rival_python:
        script = str(Path(__file__).with_name("rival_litserve.py"))
        sides["LitServe"] = (options.rival_python, script, str(model), str(enough_px(model)))
    measured: list[Load] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(running(side, command)) for side, command in sides.items()]
        for _ in range(options.rounds):
            measured.append(bound(model, files, options.seconds))
            measured += [
                server.measure(files, clients, options.seconds) for clients in options.clients for server in servers
            ]
        if options.flat:
            flat(servers[0], files, options.flat)
    loads = medians(measured)
    tell(loads)
    for words, met in verdicts(loads):
        print(f"{'met' if met else 'MISSED':>6}  {words}")
    if options.json:
        figures = {"machine": machine(["onnxruntime", "fastapi", "uvicorn"]), "loads": [asdict(one) for one in loads]}
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    sys.exit(0 if all(met for _, met in verdicts(loads)) else 1)


def medians(measured: Sequence[Load]) -> list[Load]:
    """For each side and number of clients, the median of each figure over the rounds that others did not disturb."""
    found: dict[tuple[str, int], list[Load]] = {}
    for one in measured:
        found.setdefault((one.side, one.clients), []).append(one)

    def middle(same: Sequence[Load], of: Callable[[Load], float]) -> float:
        return statistics.median(map(of, same))

    loads = []
    for (side, clients), every in found.items():
        calm = [one for one in every if (one.others or 0.0) <= MAX_OTHER_LOAD]
        same = calm or every
        loads.append(Load(
            side, clients, middle(same, lambda one: one.rate), middle(same, lambda one: one.p50_ms),
            middle(same, lambda one: one.p99_ms), middle(same, lambda one: one.cpu_ms),
            None if same[0].others is None else middle(same, lambda one: one.others or 0.0), len(calm),
        ))  # fmt: skip
    return loads


def bound(model: Path, files: Sequence[bytes], seconds: float) -> Load:
    """What all cores do with decoding and the model alone."""
    from headstart.prediction.classifier import Classifier

    classifier = Classifier.load(model)
    classifier.run_file(files[0])

    def work(content: bytes) -> None:
        classifier.run_file(content)

    return timed("bound", cores(), [work] * cores(), files, seconds, [os.getpid()], clients_too=False)


def enough_px(model: Path) -> int:
    """The side that large JPEGs must keep, for the rival to decode them as Headstart does."""
    from headstart.prediction.classifier import Classifier

    return Classifier.load(model).metadata.preprocess.enough_px


class Server:
    """A server that runs.

    Args:
        side: Its name.
        port: Where it listens.
        process: Its process number.
    """

    def __init__(self, side: str, port: int, process: int) -> None:
        self.side = side
        self.process = process
        self.port = port
        self._path = "/v1/models/model/predict" if side == "headstart" else "/predict"

    def client(self) -> Callable[[bytes], None]:
        """A connection, as a function that sends an image and waits for the answer."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask(content: bytes) -> None:
            connection.sendall(request(self._path, content))
            if not answered(connection):
                raise SystemExit(f"{self.side} does not answer well")

        return ask

    def measure(self, files: Sequence[bytes], clients: int, seconds: float) -> Load:
        """Keep so many clients busy."""
        connections = [self.client() for _ in range(clients)]
        own = family(self.process)
        timed(self.side, clients, connections, files, seconds / 5, own)  # until all are warm
        return timed(self.side, clients, connections, files, seconds, own)


def timed(
    side: str,
    clients: int,
    work: Sequence[Callable[[bytes], None]],
    files: Sequence[bytes],
    seconds: float,
    own: Sequence[int],
    *,
    clients_too: bool = True,
) -> Load:
    """Call each function with one file after the other, until the time is over.

    Args:
        side: Who works.
        clients: How many at once.
        work: A function for each.
        files: What they are called with.
        seconds: How long.
        own: The processes of the side.
        clients_too: Whether this process is not one of them, but its clients.
    """
    number, times = count(), [list[float]() for _ in work]
    busy, used, ours = system_seconds(), sum(map(cpu_seconds, own)), cpu_seconds(os.getpid())
    begun = time.perf_counter()
    end = begun + seconds

    def one(place: int) -> None:
        while (start := time.perf_counter()) < end:
            work[place](files[next(number) % len(files)])
            times[place].append(time.perf_counter() - start)

    with ThreadPoolExecutor(len(work)) as pool:
        list(pool.map(one, range(len(work))))
    elapsed = time.perf_counter() - begun
    found = sorted(value for some in times for value in some)
    after, spent = system_seconds(), sum(map(cpu_seconds, own)) - used
    others = None
    if busy is not None and after is not None:
        known = spent + (cpu_seconds(os.getpid()) - ours if clients_too else 0.0)
        others = max(0.0, (after - busy - known) / (elapsed * (os.cpu_count() or 1)))
    middle, late = found[len(found) // 2], found[min(len(found) - 1, int(0.99 * len(found)))]
    cpu_ms = 1000 * spent / len(found)
    return Load(side, clients, len(found) / elapsed, 1000 * middle, 1000 * late, cpu_ms, others)


def request(path: str, content: bytes) -> bytes:
    """A form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def answered(connection: socket.socket) -> bool:
    """Whether a whole answer comes, with the status 200."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return False
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return b" 200 " in lines[0]


@contextmanager
def running(side: str, command: Sequence[str]) -> Iterator[Server]:
    """A server on a free port, until the context ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rest = ["--port", str(port)] if side == "headstart" else [str(port), str(cores())]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *rest], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        sys.exit(f"{side} does not start:\n{log.read().decode()[-2000:]}")
                    time.sleep(0.1)
            time.sleep(3)  # LitServe listens before its workers are ready
            yield Server(side, port, process.pid)
        finally:
            children = family(process.pid)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in children:
                if Path(f"/proc/{child}").exists():
                    os.kill(child, 9)


def family(process: int) -> list[int]:
    """A process and all that it has started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one and child not in found]
    return found


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used."""
    try:
        values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: int) -> float:
    """Memory of a process and all that it has started."""
    pages = 0
    for one in family(process):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def flat(server: Server, files: Sequence[bytes], requests: int) -> None:
    """Send requests, and tell the memory ten times."""
    ask = [server.client() for _ in range(AT)]
    number, lock = 0, threading.Lock()

    def some(place: int) -> None:
        nonlocal number
        while True:
            with lock:
                if number >= most:
                    return
                number += 1
                file = files[number % len(files)]
            ask[place](file)

    for step in range(1, 11):
        most = requests * step // 10
        with ThreadPoolExecutor(AT) as pool:
            list(pool.map(some, range(AT)))
        print(f"after {most:,} requests: {resident_mb(server.process):.0f} MB", flush=True)


def tell(loads: Sequence[Load]) -> None:
    """Print the table."""
    best = loads[0].rate
    print_table(
        ("side", "clients", "images/s", "of the bound", "p50", "p99", "CPU an image", "load of others", "rounds"),
        [
            (one.side, str(one.clients), f"{one.rate:.1f}", percent(one.rate / best), f"{one.p50_ms:.0f} ms",
             f"{one.p99_ms:.0f} ms", f"{one.cpu_ms:.1f} ms", percent(one.others),
             str(one.rounds))
            for one in loads
        ],
    )  # fmt: skip


def verdicts(loads: Sequence[Load]) -> list[tuple[str, bool]]:
    """The targets in words, and whether each is met: the share of the bound, and better than the rival."""
    (most,) = [one for one in loads if one.side == "bound"]
    found = []
    for one in loads:
        if one.side == "headstart" and one.clients == AT:
            words = f"{percent(SHARE_OF_BOUND)} of the bound at {AT} clients: {percent(one.rate / most.rate)}"
            found.append((words, one.rate >= SHARE_OF_BOUND * most.rate))
    ours = {one.clients: one for one in loads if one.side == "headstart"}
    for rival in (one for one in loads if one.side == "LitServe"):
        own = ours[rival.clients]
        words = f"more images/s than LitServe at {rival.clients} clients: {own.rate:.1f} against {rival.rate:.1f}"
        found.append((words, own.rate > rival.rate))
        words = f"less processor time an image: {own.cpu_ms:.1f} ms against {rival.cpu_ms:.1f} ms"
        found.append((words, own.cpu_ms < rival.cpu_ms))
    return found


if __name__ == "__main__":
    main()

"""Who is served when: a few new requests in each round of the event loop, and probes of health before all of them.

A round of the loop takes as long as all that is ready takes. Without turns, a thousand requests that come at once are
all ready in one round, and whoever asks whether the server is well waits for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from headstart.serving.limits import HEADER_SECONDS
from headstart.serving.policy import HEALTH

_A_ROUND = 2
_HELD_ROUNDS = 16  # that may pass without a turn while a probe is under way: it takes six
_ACCEPTED = 256  # connections that are accepted in one round: 2.5 ms, if all have said something
_PAUSE_SECONDS = 1.0  # before connections are accepted again, where the system allows no more open files
_PROBES = tuple(f"{method} {path}".encode() for method in ("GET", "HEAD") for path in HEALTH)
_PROBE_BYTES = max(map(len, _PROBES))


def is_probe(data: bytes) -> bool:
    """Whether a request, of which these are the first bytes, asks for the server's health."""
    return data.startswith(_PROBES)


class Turns:
    """Lets those who wait begin, in their order, a few in each round of the event loop.

    Attributes:
        probes: Connections whose probe is not answered yet. Nobody else begins meanwhile, for some rounds: many probes
            do not keep all others waiting.
    """

    def __init__(self) -> None:
        self.probes = 0
        self._waiting = deque[Callable[[], None]]()
        self._left = _A_ROUND
        self._held = 0  # rounds that have passed without a turn
        self._comes = False

    def take(self, begin: Callable[[], None]) -> None:
        """Begin, now or in a later round of the running loop."""
        if self._left and not self._waiting:
            self._left -= 1
            begin()
        else:
            self._waiting.append(begin)
        if not self._comes:
            self._comes = True
            asyncio.get_running_loop().call_soon(self._round)

    async def all_begun(self, rounds: int = 10_000) -> None:
        """Wait until nobody waits any more, for so many rounds at most."""
        while self._waiting and rounds:
            rounds -= 1
            await asyncio.sleep(0)

    def _round(self) -> None:
        if self.probes and self._held < _HELD_ROUNDS:
            self._held += 1
        else:
            self._held = 0
            for _ in range(min(_A_ROUND, len(self._waiting))):
                self._waiting.popleft()()
        self._left = 0 if self._waiting else _A_ROUND
        self._comes = bool(self._waiting)
        if self._comes:
            asyncio.get_running_loop().call_soon(self._round)


class Door:
    """Takes the connections that come to a listening socket, in the place of asyncio's own server.

    A connection is looked at once it says something: one that asks for health goes in at once, others take turns.

    Args:
        listener: The socket.
        make: Makes the protocol of a connection.
        turns: Of all connections.

    Raises:
        NotImplementedError: The event loop cannot watch sockets, as the usual one of Windows.
    """

    def __init__(self, listener: socket.socket, make: Callable[[], asyncio.Protocol], turns: Turns) -> None:
        self._listener = listener
        self._make = make
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._entering = set[asyncio.Task[object]]()
        self._open = True
        listener.setblocking(False)
        self._loop.add_reader(listener, self._arrive)

    def close(self) -> None:
        """Take no more connections; those that have said nothing are closed."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            for connection in list(self._silent):
                self._forget(connection)
                connection.close()

    async def wait_closed(self) -> None:
        """Wait until all that were taken have their protocol."""
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _arrive(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # too many open files: asking at once again would take all time
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self._again)
                return
            connection.setblocking(False)
            if not self._speaks(connection):  # most have sent something by now
                self._silent[connection] = self._loop.call_later(HEADER_SECONDS, self._late, connection)
                self._loop.add_reader(connection, self._speaks, connection)

    def _again(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._arrive)

    def _late(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        if timer := self._silent.pop(connection, None):
            timer.cancel()
            self._loop.remove_reader(connection)

    def _speaks(self, connection: socket.socket) -> bool:
        """Let a connection in that has said something, when it is its turn; False where it has not."""
        try:
            first = connection.recv(_PROBE_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            first = b""
        self._forget(connection)
        if not first:  # it has gone
            connection.close()
        elif is_probe(first):
            self._enter(connection)
        else:
            self._turns.take(lambda: self._enter(connection))
        return True

    def _enter(self, connection: socket.socket) -> None:
        task = self._loop.create_task(self._connected(connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _connected(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone in between
            await self._loop.connect_accepted_socket(self._make, connection)

"""Ctrl-C, SIGTERM, a closed terminal: work is unwound where that is safe; the program ends in two seconds anyway."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from headstart.cli import streams

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

GRACE_SECONDS = 1.5  # for the images that are being decoded, and for the cache to be written
WORDS = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Asked to stop (SIGTERM)."}
if hasattr(signal, "SIGHUP"):  # Windows has none
    WORDS[signal.SIGHUP] = "The terminal was closed (SIGHUP)."
HINT = "No file was left half-written. Run the same command again: images that were embedded come from the cache."


class Stopped(BaseException):
    """A signal asked the program to end. It is no KeyboardInterrupt: typer ends without a word at those.

    Args:
        number: The signal.

    Attributes:
        hint: What to do next, of any that comes from now on.
    """

    hint = HINT
    record = ""

    def __init__(self, number: int) -> None:
        super().__init__(WORDS[signal.Signals(number)])
        self.number = number
        self.hint = _hint()


def set_hint(text: str, *, record: str = "") -> None:
    """Name what a person can do after an interruption of the work that begins now.

    Args:
        text: What.
        record: A file that must be there for it; until it is, the first words of all hold.
    """
    Stopped.hint, Stopped.record = text, record


def _hint() -> str:
    return Stopped.hint if not Stopped.record or os.path.exists(Stopped.record) else HINT  # noqa: PTH110


def install() -> None:
    """Handle the signals from here on."""
    # Sockets, since Windows can wait for no pipe. The number arrives even while the main thread is inside long C code.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name=_WATCHER, daemon=True).start()
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        WORDS.pop(signal.SIGHUP)  # `nohup` started us: a closed terminal is to be ignored
    for number in WORDS:
        signal.signal(number, _stop)
    sys.unraisablehook = _unraisable


def hand_over() -> None:
    """Leave the signals to a server, which ends by itself when it is asked to."""
    signal.set_wakeup_fd(-1)  # the watcher would end it after the grace


def leave(code: int) -> None:
    """Exit; at once where a thread still works: Python crashes when one imports a module while it shuts down."""
    if all(thread.name == _WATCHER or thread is threading.main_thread() for thread in threading.enumerate()):
        if "torch" not in sys.modules:  # parts of which print lists of what is left where it is not collected
            gc.freeze()  # Python looks for garbage as it ends, for 0.2 s, and the memory goes anyway
        sys.exit(code)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


_WATCHER = "headstart-signals"


def _stop(number: int, frame: FrameType | None) -> None:
    for each in WORDS:
        signal.signal(each, _ignore)
    # An exception inside an import can leave its lock behind, for which all other threads then wait for ever; and
    # C++ modules abort.
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end(number)
        frame = frame.f_back
    raise Stopped(number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The watcher sees to it."""


def _watch(reader: socket.socket) -> None:
    """End the program at a second signal, or where the first one found work that cannot be unwound."""
    first = reader.recv(1)[0]
    reader.settimeout(GRACE_SECONDS)
    try:
        second = reader.recv(1)[0]
    except TimeoutError:
        _end(first)
    os._exit(128 + second)  # files get their names when they are whole: nothing is half-written


def _unraisable(lost: UnraisableHookArgs) -> None:
    """Python drops an exception that comes in the middle of a destructor."""
    if isinstance(lost.exc_value, Stopped):
        _end(lost.exc_value.number)
    sys.__unraisablehook__(lost)


def _end(number: int) -> NoReturn:
    """End without unwinding: by the system's calls alone, since any lock may be held."""
    stderr = streams.descriptor()
    show_cursor = "\x1b[?25h" if os.isatty(stderr) else ""  # a progress bar hides it
    with contextlib.suppress(OSError):  # the terminal is gone
        os.write(stderr, f"{show_cursor}Error: {WORDS[signal.Signals(number)]}\n{_hint()}\n".encode())
    os._exit(128 + number)

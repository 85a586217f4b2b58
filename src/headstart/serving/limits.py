"""What one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.core.arguments import must_be_count
from headstart.core.errors import OptionError

# A connection that has not sent its request line and headers by then is closed.
HEADER_SECONDS = 10
HEADER_BYTES = 64 * 1024  # of a request; more are refused
# Beside the bodies that are read, what parsing and answering take.
BODIES_IN_MEMORY = 4  # bodies of the largest size
PART_HEADERS_BYTES = 8 * 1024  # of one part of a form: a name, and what browsers add
MAX_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        megabytes: Largest body of a request, in units of a million bytes.
        files: Images in one request.
        seconds: For each of three: until the body has arrived, in the queue, and in the decoder and the model.
        waiting: Images that may wait for a worker; more are refused at once.
    """

    megabytes: int = 64
    files: int = 64
    seconds: int = 30
    waiting: int = 128

    def __post_init__(self) -> None:
        for name in ("megabytes", "files", "seconds", "waiting"):
            must_be_count(name, getattr(self, name))
        if self.waiting < self.files:
            raise OptionError(
                f"A queue of {self.waiting:,} images is too short for a request of {self.files:,}.",
                "Use a larger --queue, or a smaller --max-files.",
            )
        if self.seconds > MAX_SECONDS:
            raise OptionError(f"--max-seconds is {self.seconds:,}; expected at most {MAX_SECONDS:,}.")

    @property
    def body_bytes(self) -> int:
        """Largest request body, in MB."""
        return self.megabytes * 1_000_000

    @property
    def all_bytes(self) -> int:
        """Most bytes of request bodies in memory at one time."""
        return self.body_bytes * BODIES_IN_MEMORY

    @property
    def run_seconds(self) -> float:
        """The longest time that the images of a request can take; the rest of `request_seconds` is for their bytes."""
        return 2 * self.seconds + HEADER_SECONDS / 2

    @property
    def request_seconds(self) -> int:
        """The longest time that a request can take, from its headers to the end of the response."""
        return 3 * self.seconds + HEADER_SECONDS

"""The exception tree. Each message says what was found and what was expected; `hint` says what to do.

HeadstartError
├── InputError            (ValueError)   something that the user gave cannot be used
│   ├── OptionError                      an option has a value that does not exist
│   │   └── BudgetError                  not even the shortest training fits into the budget
│   ├── SourceError                      a source cannot be read as an image table
│   ├── ImageError                       one image cannot be decoded
│   └── ModelError                       a model file is refused
├── ExtraError            (ImportError)  a package that only an extra installs is missing
├── DeviceError           (RuntimeError) the device is missing, or has too little memory
├── TrainingError         (ArithmeticError) the loss is NaN or infinite
├── StorageError          (OSError)      disk full, read-only, locked by another process
└── OfflineError          (OSError)      a download or an upload did not succeed
"""

from __future__ import annotations


class HeadstartError(Exception):
    """Base of all errors that Headstart raises on purpose.

    Args:
        message: What was found and what was expected.
        hint: The next thing to do, or an empty string.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class InputError(HeadstartError, ValueError):
    """Something that the user gave cannot be used."""


class OptionError(InputError):
    """An option has a value that does not exist."""


class BudgetError(OptionError):
    """Not even the shortest training fits into the budget of time."""


class SourceError(InputError):
    """A source cannot be read as an image table."""


class ImageError(InputError):
    """One image cannot be decoded; the message is the reason."""


class ModelError(InputError):
    """A model file is refused."""


class ExtraError(HeadstartError, ImportError):
    """A package that only an extra installs is missing."""


class DeviceError(HeadstartError, RuntimeError):
    """The device is missing, or has too little memory."""


class TrainingError(HeadstartError, ArithmeticError):
    """The loss is NaN or infinite."""


class StorageError(HeadstartError, OSError):
    """A file or folder cannot be written, or another process holds it."""


class OfflineError(HeadstartError, OSError):
    """A download or an upload did not succeed."""

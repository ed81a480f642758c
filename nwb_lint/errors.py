"""The errors of this package. Every message says what was found, what was needed, and what to do.

==================  ===================  ==============================================================
error               is also a            raised when
==================  ===================  ==============================================================
`NWBLintError`                           any of the below: catch this one to catch all
`ContractError`     `ValueError`         an argument or a Dataset is not what a function needs
`NWBError`                               a file does not hold what is needed, or cannot be read
`MissingFileError`  `FileNotFoundError`  there is no file at a path or an address
`WorkerError`       `RuntimeError`       worker processes were lost, and with them unfinished fits
==================  ===================  ==============================================================
"""

from __future__ import annotations


class NWBLintError(Exception):
    """Any error of this package."""


class ContractError(NWBLintError, ValueError):
    """An argument, a recipe or a Dataset is not what a function needs."""


class NWBError(NWBLintError):
    """A file does not hold what is needed, or it cannot be read."""


class MissingFileError(NWBError, FileNotFoundError):
    """There is no file at this path or address."""


class WorkerError(NWBLintError, RuntimeError):
    """Worker processes were lost, and with them unfinished fits."""


def one_line(message: object) -> str:
    """A message, or that of an exception, on one line."""
    return " ".join(str(message).split()).strip("'\"")

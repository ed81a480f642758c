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

import re

# Control characters but tab and line end, marks that reorder or break lines, and bytes of file names that are no text.
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)

MOST_SHOWN = 2000  # characters of a message; a file can hold names of any length


class NWBLintError(Exception):
    """Any error of this package."""

    def __str__(self) -> str:
        text = printable(super().__str__())
        return shortened(text.replace("\n", "\\n"))  # one line, whatever names files give their parts


class ContractError(NWBLintError, ValueError):
    """An argument, a recipe or a Dataset is not what a function needs.

    Attributes
    ----------
    place : tuple of str and int
        Keys, and positions in lists, that lead to the wrong field of a recipe, from the outside; empty for all else.
    """

    place: tuple[str | int, ...] = ()


class NWBError(NWBLintError):
    """A file does not hold what is needed, or it cannot be read."""


class MissingFileError(NWBError, FileNotFoundError):
    """There is no file at this path or address."""


class WorkerError(NWBLintError, RuntimeError):
    """Worker processes were lost, and with them unfinished fits."""


def printable(text: str) -> str:
    """A text with control characters, which a terminal would obey, as escapes such as ``\\u001b``.

    Line ends and tabs stay. Texts of files pass it before they are shown.

    Examples
    --------
    >>> print(printable("left" + chr(27) + "[2J"))
    left\\u001b[2J
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """A text whose middle is left out where it is too long: what is wrong stands first, what to do last."""
    if len(text) <= most:
        return text
    start, end = most * 3 // 4, most // 5
    return f"{text[:start]} … ({len(text) - start - end} characters left out) … {text[-end:]}"


def one_line(message: object) -> str:
    """A message, or that of an exception, on one line."""
    return " ".join(str(message).split()).strip("'\"")

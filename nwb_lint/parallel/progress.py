"""Progress of long work: a bar in a terminal or a notebook, else plain lines with the time left."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm.auto import tqdm

LINE_S = 10.0  # between two lines
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} left{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} {unit}s, {elapsed} passed{postfix}"


class _Lines:
    """A stream that shows each state of a bar on a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if line := text.strip("\r\n "):
            self.stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(shown: bool, label: str, *, unit: str = "task", total: int | None = None) -> tqdm:
    """A progress bar that counts, as a context; ``update`` counts one more.

    Without a terminal, such as on a cluster, a line is printed every ten seconds, and none for shorter work.

    Parameters
    ----------
    shown : bool
        False shows nothing.
    label : str
        What is done.
    unit : str, default="task"
        What is counted.
    total : int or None, default=None
        How much there is to count. None: it is not known.

    Returns
    -------
    tqdm.tqdm
        The bar.

    Examples
    --------
    >>> with progress_bar(False, "fits", total=3) as bar:
    ...     bar.update()
    """
    how: dict[str, Any] = {"desc": label, "unit": unit, "total": total}
    stream = sys.stderr
    try:
        terminal = stream.isatty()
    except (AttributeError, OSError, ValueError):  # no stream, one that is closed, or a terminal that is gone
        return tqdm(**how, disable=True)
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if not notebook and not terminal:
        how |= {"file": _Lines(stream), "mininterval": LINE_S, "delay": LINE_S, "leave": False}
        how["bar_format"] = _LINE_WITHOUT_TOTAL if total is None else _LINE
    return tqdm(**how, disable=not shown)

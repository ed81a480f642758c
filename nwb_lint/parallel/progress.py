"""Progress of long work: a bar in a terminal or a notebook, else plain lines with the time left."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, TextIO

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets, a notebook has lines in place of bars
    from tqdm.auto import tqdm

LINE_S = 10.0  # between two lines
BAR_S = 1.0  # between two times that a bar shows, where nothing is counted
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


@contextmanager
def progress_bar(shown: bool, label: str, *, unit: str = "task", total: int | None = None) -> Iterator[tqdm]:
    """A progress bar that counts, as a context; ``update`` counts one more.

    Without a terminal, such as on a cluster, a line is printed every ten seconds, and none for shorter work. The time
    goes on where a single step is long.

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

    Yields
    ------
    tqdm.tqdm
        The bar.

    Examples
    --------
    >>> with progress_bar(False, "fits", total=3) as bar:
    ...     bar.update()
    """
    how: dict[str, Any] = {"desc": label, "unit": unit, "total": total, "unit_scale": unit == "byte"}
    stream = sys.stderr
    try:
        terminal = stream.isatty()
    except (AttributeError, OSError, ValueError):  # no stream, one that is closed, or a terminal that is gone
        shown, terminal = False, False
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if not notebook and not terminal:
        how |= {"file": _Lines(stream), "mininterval": LINE_S, "delay": LINE_S, "leave": False}
        how["bar_format"] = _LINE_WITHOUT_TOTAL if total is None else _LINE
    with tqdm(**how, disable=not shown) as bar:
        if notebook or not shown:
            yield bar
            return
        with _refreshed(bar, BAR_S if terminal else LINE_S):
            yield bar


@contextmanager
def _refreshed(bar: tqdm, every_s: float) -> Iterator[None]:
    """Show a bar again and again while nothing is counted, from a thread."""
    done = Event()

    def refresh() -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone
            while not done.wait(every_s):
                if time.time() - bar.last_print_t >= every_s:
                    bar.refresh()

    thread = Thread(target=refresh, name="nwb_lint shows progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

"""A file of what descents computed, so that a fit that was stopped can continue.

A descent is a deterministic function of the values of its loss, so that these values, in their order, are all that must
be kept. The file is a row of numpy arrays: a text that identifies data and options, then one array per evaluation with
the squared norm of its arguments, its value, its gradients if it has them, and the CRC-32 of these. When the fit runs
again, evaluations are read instead of computed. An evaluation that a crash left half-written or that is damaged, and
all from the first one whose arguments differ, are computed again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any
from zlib import crc32

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import CHECKPOINT_INTERVAL_S
from nwb_lint.parallel.warnings import warn

_HEADER = "nwb_lint checkpoint "
_FORMAT = "2: "  # rows end with their CRC-32


class Journal:
    """The checkpoint file of one fit. Use it as a context manager, which writes the rest at its end.

    Parameters
    ----------
    path : str or Path
        The file; it is created if it does not exist.
    identity : str
        Identifies data and options of the fit.
    interval_s : float, default=CHECKPOINT_INTERVAL_S
        Time between two writes, in s.

    Raises
    ------
    ContractError
        If the file is something else or the checkpoint of another fit, or if it cannot be opened.
    """

    def __init__(self, path: str | Path, identity: str, interval_s: float = CHECKPOINT_INTERVAL_S) -> None:
        self.path, self.identity, self.interval_s = Path(path), identity, interval_s
        self.waiting: list[Array] = []
        self.written_at = monotonic()
        try:
            self.file = self.path.open("r+b" if self.path.exists() else "x+b")
        except OSError as error:
            raise ContractError(
                f"The checkpoint {path} cannot be opened ({error.strerror}). Give another path."
            ) from error
        try:
            self._check()
        except ContractError:
            self.file.close()
            raise
        self.reading, self.valid_until = True, self.file.tell()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        with suppress(OSError):  # of what `_write` could not write, and has warned of
            self.file.close()

    def recorded(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function read its results from the file, and write those that it has to compute.

        Parameters
        ----------
        f : callable
            Takes arrays. Returns a number, or a tuple of a number and one array of the shape of each argument.

        Returns
        -------
        callable
            Takes and returns the same as ``f``.
        """

        def recorded(*arguments: Array) -> Any:
            norm = float(sum(np.vdot(a, a) for a in arguments))
            row = self._read(norm)
            if row is None:
                result = f(*arguments)
                value, *arrays = result if isinstance(result, tuple) else (result,)
                self._append(np.concatenate([[norm, value], *(np.ravel(a) for a in arrays)]))
                return result
            if len(row) == 2:
                return float(row[1])
            parts = np.split(row[2:], np.cumsum([a.size for a in arguments])[:-1])
            return float(row[1]), *(p.reshape(a.shape) for p, a in zip(parts, arguments, strict=True))

        return recorded

    def _check(self) -> None:
        """Check the header of an existing file; write it to a new one."""
        if self.path.stat().st_size == 0:
            try:
                np.save(self.file, np.array(_HEADER + _FORMAT + self.identity))
                self.file.flush()
            except OSError as error:
                self._cannot_be_written(error)
            return
        head = self._next_array()
        text = str(head) if head is not None and head.dtype.kind == "U" and head.ndim == 0 else ""
        if not text.startswith(_HEADER):
            raise ContractError(f"{self.path} is not a checkpoint of fit_lint. Give another path.")
        if text != _HEADER + _FORMAT + self.identity:
            raise ContractError(
                f"{self.path} is the checkpoint of another fit: other data, options or version. Give another path, or "
                "delete it to begin again."
            )

    def _next_array(self) -> Array | None:
        """The next array of the file; None at its end, or if it is half-written."""
        try:
            return np.load(self.file, allow_pickle=False)
        except Exception:  # a damaged header makes numpy raise whatever its parser of Python does
            return None

    def _read(self, norm: float) -> Array | None:
        """The next evaluation if its arguments have this squared norm; from the first that has not, None."""
        if not self.reading:
            return None
        row = self._next_array()
        whole = row is not None and row.ndim == 1 and row.dtype == float and len(row) > 2 and row[-1] == _crc(row[:-1])
        if row is not None and whole and np.isclose(row[0], norm, rtol=1e-6, atol=0):
            self.valid_until = self.file.tell()
            return row[:-1]
        self.reading = False
        return None

    def _cannot_be_written(self, error: OSError) -> None:
        why = error.strerror or type(error).__name__  # numpy gives no reason
        warn(f"The checkpoint {self.path} cannot be written ({why}). The fit goes on; if stopped, it begins again.")

    def _append(self, row: Array) -> None:
        self.waiting.append(row)
        if monotonic() - self.written_at >= self.interval_s:
            self._write()

    def _write(self) -> None:
        """Write what waits after the last valid evaluation, over whatever an interrupted write left there."""
        if not self.waiting:
            return
        try:
            self.file.seek(self.valid_until)
            self.file.truncate()
            for row in self.waiting:
                np.save(self.file, np.append(row, _crc(row)))
            self.file.flush()
            self.valid_until = self.file.tell()
            os.fsync(self.file.fileno())
        except OSError as error:
            self._cannot_be_written(error)
        self.waiting, self.written_at = [], monotonic()


def _crc(row: Array) -> float:
    return float(crc32(row.tobytes()))

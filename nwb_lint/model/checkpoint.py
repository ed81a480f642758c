"""A journal of what descents computed, so that a fit that was stopped goes on: evaluations are read, not run again.

A descent is the same function of the same evaluations, whatever it is made of; so the journal holds these, in their
order, and nothing of any optimiser. The file is a row of numpy arrays: a text that names data and options, then one
array per evaluation, its argument's squared norm, its value and what else it gave. An evaluation that a crash left
half-written, and all from one on whose argument is another, are run again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.parallel.warnings import warn

EVERY_S = 10.0  # s between writes
_HEAD = "nwb_lint checkpoint "


class Journal:
    """The file of one fit: ``identity`` names its data and options. Use as a context; what is not written then is.

    Raises: ContractError where the file is something else, of another fit, or cannot be written.
    """

    def __init__(self, path: str | Path, identity: str) -> None:
        self.path, self.identity = Path(path), identity
        self.waiting: list[Array] = []
        self.written_at = monotonic()
        try:
            self.file = self.path.open("r+b" if self.path.exists() else "x+b")
        except OSError as error:
            raise ContractError(f"checkpoint {path} cannot be opened ({error.strerror}); give another path.") from None
        try:
            self._check()
        except ContractError:
            self.file.close()
            raise
        self.reading, self.whole = True, self.file.tell()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self.file.close()

    def keeping(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The function of arrays, which gives a number, or a tuple of one and arrays of its arguments' shapes."""

        def kept(*arguments: Array) -> Any:
            mark = float(sum(np.vdot(a, a) for a in arguments))
            row = self._read(mark)
            if row is None:
                result = f(*arguments)
                value, *arrays = result if isinstance(result, tuple) else (result,)
                self._keep(np.concatenate([[mark, value], *(np.ravel(a) for a in arrays)]))
                return result
            if len(row) == 2:
                return float(row[1])
            parts = np.split(row[2:], np.cumsum([a.size for a in arguments])[:-1])
            return float(row[1]), *(p.reshape(a.shape) for p, a in zip(parts, arguments, strict=True))

        return kept

    def _check(self) -> None:
        if self.path.stat().st_size == 0:
            np.save(self.file, np.array(_HEAD + self.identity))
            self.file.flush()
            return
        head = self._array()
        text = str(head) if head is not None and head.dtype.kind == "U" and head.ndim == 0 else ""
        if not text.startswith(_HEAD):
            raise ContractError(f"{self.path} is not a checkpoint of fit_lint; give another path.")
        if text != _HEAD + self.identity:
            raise ContractError(
                f"{self.path} is the checkpoint of another fit (other data, options or version); give another path, or "
                "delete it to begin anew."
            )

    def _array(self) -> Array | None:
        try:
            return np.load(self.file, allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return None

    def _read(self, mark: float) -> Array | None:
        if not self.reading:
            return None
        row = self._array()
        if row is not None and row.ndim == 1 and len(row) > 1 and np.isclose(row[0], mark, rtol=1e-6, atol=0):
            self.whole = self.file.tell()
            return row
        self.reading = False
        return None

    def _keep(self, row: Array) -> None:
        self.waiting.append(row)
        if monotonic() - self.written_at >= EVERY_S:
            self._write()

    def _write(self) -> None:
        """Write what waits after the last whole row: a write that was interrupted is written over."""
        if not self.waiting:
            return
        try:
            self.file.seek(self.whole)
            self.file.truncate()
            for row in self.waiting:
                np.save(self.file, row)
            self.file.flush()
            self.whole = self.file.tell()
            os.fsync(self.file.fileno())
        except OSError as error:
            warn(f"checkpoint {self.path} is not written any further ({error.strerror}).")
        self.waiting, self.written_at = [], monotonic()

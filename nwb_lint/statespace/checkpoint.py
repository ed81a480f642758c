"""A file of where EM is, so that a fit that was stopped can continue to the same result.

An iteration of EM depends on nothing but the values that the one before left. The file holds the last of them, as a zip
file of numpy arrays, whose CRC-32 show damage. It is replaced as a whole, so that it is never half-written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import CHECKPOINT_INTERVAL_S
from nwb_lint.parallel.warnings import warn

_HEADER = "nwb_lint checkpoint of trials 1: "
T = TypeVar("T")


class Snapshot:
    """The checkpoint file of one fit. Use it as a context manager, which writes the last values at its end.

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
        If the file is something else, damaged, or the checkpoint of another fit, or if it cannot be written.
    """

    def __init__(self, path: str | Path, identity: str, interval_s: float = CHECKPOINT_INTERVAL_S) -> None:
        self.path, self.identity, self.interval_s = Path(path), identity, interval_s
        self.waiting: Any = None
        self.written_at = monotonic()
        try:
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise ContractError(
                f"The checkpoint {path} cannot be opened ({error.strerror}). Give another path."
            ) from error
        self.stored = self._read() if self.path.stat().st_size else None

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def load(self, like: type[T], parts: dict[str, type]) -> T | None:
        """What was kept last, a NamedTuple of this class; None in a new file.

        Parameters
        ----------
        like : type
            Class of the NamedTuple.
        parts : dict of type
            Classes of the fields, at any depth, that are NamedTuples.

        Returns
        -------
        NamedTuple or None
        """
        return None if self.stored is None else _unpacked(like, self.stored, parts, "")

    def keep(self, values: Any) -> None:
        """Keep this NamedTuple of arrays, numbers, texts and NamedTuples in place of what was kept before."""
        self.waiting = values
        if monotonic() - self.written_at >= self.interval_s:
            self._write()

    def _read(self) -> dict[str, Array]:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                stored = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # of whichever layer meets the damage
            with self.path.open("rb") as file:
                ours = _HEADER.encode("utf-32-le") in file.read(4096)
            if ours:
                raise ContractError(f"The checkpoint {self.path} is damaged. Delete it to begin again.") from error
            stored = {}
        head = str(stored.pop("header", ""))
        if not head.startswith(_HEADER):
            raise ContractError(f"{self.path} is not a checkpoint of fit_trials. Give another path.")
        if head != _HEADER + self.identity:
            raise ContractError(
                f"{self.path} is the checkpoint of another fit: other data, options or version. Give another path, or "
                "delete it to begin again."
            )
        return stored

    def _write(self) -> None:
        if self.waiting is None:
            return
        partial = self.path.with_name(self.path.name + ".part")
        arrays: dict[str, Any] = {"header": np.array(_HEADER + self.identity), **_packed(self.waiting, "")}
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            why = error.strerror or type(error).__name__
            warn(f"The checkpoint {self.path} cannot be written ({why}). The fit goes on; if stopped, it begins again.")
        self.waiting, self.written_at = None, monotonic()


def _packed(values: Any, prefix: str) -> dict[str, Array]:
    """The arrays of a NamedTuple, by their names; None is left out."""
    found: dict[str, Array] = {}
    for name, value in zip(values._fields, values, strict=True):
        if isinstance(value, tuple):
            found |= _packed(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = np.asarray(value)
    return found


def _unpacked(like: Any, stored: dict[str, Array], parts: dict[str, type], prefix: str) -> Any:
    found: dict[str, Any] = {}
    for name in like._fields:
        if name in parts:
            found[name] = _unpacked(parts[name], stored, parts, f"{prefix}{name}.")
        elif (value := stored.get(prefix + name)) is not None:
            found[name] = value if value.ndim else value.item()
        else:
            found[name] = None
    return like(**found)

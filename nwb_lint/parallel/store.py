"""Finished tasks in a folder: one ``<hash>.npz`` for each, with its arrays and the messages of its warnings.

No file is unpickled, so a folder that others can write to is safe to read. Each has a CRC-32 of names and values, since
that of the zip format does not cover the names.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import joblib
import numpy as np
import xarray as xr
from pydantic import BaseModel

from nwb_lint.errors import ContractError
from nwb_lint.parallel.tasks import Outcome, Work
from nwb_lint.parallel.warnings import warn

_WARNINGS, _CRC = "_warnings", "_crc"


class Store:
    """The results of one work, by a hash of the data, the options, the work and the version of this package."""

    def __init__(self, folder: str | Path, work: Work) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ContractError(f"cache_dir is {folder}, a file. It needs a folder. Give another name.") from None
        except OSError as error:
            raise ContractError(
                f"cache_dir is {folder}, which cannot be made ({error.strerror}). Give another folder."
            ) from None
        self._work = f"{work.__module__}.{work.__qualname__} {version('nwb_lint')}"
        self._last: tuple[Any, str] = (self, "")  # data, and their hash: tasks in a row often share them

    def path(self, data: Any, options: dict[str, Any]) -> Path:
        """The file of a task, whether it exists or not."""
        if self._last[0] is not data:
            self._last = data, content_hash(data)
        return self.folder / f"{content_hash((self._work, self._last[1], options))}.npz"

    def load(self, path: Path) -> Outcome | None:
        """The outcome in a file; None where there is no file, or none that can be read."""
        try:
            with np.load(path, allow_pickle=False) as file:
                result = {name: file[name] for name in file.files}
            if result.pop(_CRC) != _crc(result):
                return None
        except Exception:  # numpy and zipfile raise errors of every kind where a file is damaged
            return None
        return Outcome(result, None, result.pop(_WARNINGS, np.array([])).tolist())

    def save(self, path: Path, outcome: Outcome) -> None:
        """Write a file under another name, then rename it, so that no reader sees half a file.

        A disk that refuses is a warning: the result is there, and a later run computes it again.
        """
        beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.tmp")
        messages: dict[str, Any] = {_WARNINGS: np.array(outcome.warnings)} if outcome.warnings else {}
        kept: dict[str, Any] = {name: np.asarray(value) for name, value in (outcome.result | messages).items()}
        kept[_CRC] = np.array(_crc(kept))
        try:
            with beside.open("xb") as file:  # a new file: others may have put a link into a shared folder
                np.savez(file, **kept)
            beside.replace(path)
        except OSError as error:
            why = error.strerror or type(error).__name__
            warn(f"{self.folder} cannot be written ({why}). Results are not kept there for a later run.")
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def _crc(arrays: dict[str, Any]) -> int:
    parts = sorted((name, str(value.dtype), value.shape, np.ascontiguousarray(value)) for name, value in arrays.items())
    crc = 0
    for *about, value in parts:
        crc = crc32(value.tobytes(), crc32(repr(about).encode(), crc))
    return crc


def content_hash(value: Any) -> str:
    """A hash of what Datasets, arrays, texts and numbers hold, whichever library holds them."""
    return str(joblib.hash(_content(value), hash_name="sha1"))


def _content(value: Any) -> Any:
    """The value with Datasets as dicts of arrays, options as dicts, and text as fixed-width text."""
    if isinstance(value, xr.Dataset):
        arrays = {str(k): (v.dims, _content(v.values)) for k, v in value.variables.items()}
        return {"variables": arrays, "attrs": _content(value.attrs)}
    if isinstance(value, np.ndarray):
        return value.astype(str) if value.dtype.kind in "OT" else np.ascontiguousarray(value)
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        return {str(k): _content(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_content(v) for v in value)
    return value

"""NWB files as they are written: a new one, or a full copy of another with more in it; HDF5 or Zarr, always valid.

Nothing here is atomic: the paths are those that `atomic.write_atomically` gives.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from nwb_lint.nwb.asset import NWBError, kind_of
from nwb_lint.nwb.schema import get_classes


def is_zarr(path: Path) -> bool:
    """Whether a path is, or is to be, of a Zarr folder."""
    return kind_of(path.name) == "zarr"


def write_new(nwbfile: Any, path: Path) -> None:
    """Write an NWBFile to a new file, HDF5 or Zarr by the ending of its path.

    Raises: NWBError where it would not be valid.
    """
    with _quiet():
        if is_zarr(path):
            with _io(path, "w") as io:
                io.write(nwbfile)
        else:
            path.write_bytes(_in_memory(nwbfile))
    _refuse(_problems(path))


def _in_memory(nwbfile: Any) -> bytes:
    """The bytes of the HDF5 file: made in memory, since HDF5 itself does not get over a full disk."""
    import pynwb

    memory = h5py.File("new.nwb", "w", driver="core", backing_store=False)
    with memory as file, pynwb.NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwbfile)
        file.flush()
        return bytes(file.id.get_file_image())


def write_copy(source: Path, path: Path, add: Callable[[Any], None]) -> None:
    """Copy a file, byte by byte, and add to the copy what ``add`` puts into its NWBFile.

    Raises: NWBError where the copy would not be valid, or where the file links to others, which the copy would too.
    """
    if is_zarr(source):
        shutil.copytree(source, path, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, path)
        if link := external_link(path):
            raise NWBError(f"{source} has an external link ({link}), which a copy may not have. Copy its data first.")
    get_classes()  # before the file is read: pynwb would make classes of its own from the spec that lies there
    with _quiet(), _io(path, "r+" if is_zarr(path) else "a") as io:
        nwbfile = io.read()
        add(nwbfile)
        io.write(nwbfile)
    # old recordings are at odds with today's schemas as they are: of those only what was added has to be valid
    problems = _problems(path)
    if problems and _problems(source):
        problems = [line for line in problems if "processing/" in line]
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    """Raise NWBError where pynwb finds a file at odds with the schemas it carries."""
    if problems:
        raise NWBError(f"the file would not be valid NWB: {'; '.join(problems)}. Nothing was written.")


def _problems(path: Path) -> list[str]:
    import pynwb

    with _quiet():
        if not is_zarr(path):
            return [" ".join(str(problem).split()) for problem in pynwb.validate(path=str(path))]
        from pynwb.validation import get_cached_namespaces_to_validate

        with _io(path, "r") as io:
            manager = get_cached_namespaces_to_validate(io=io)[1]
        with _io(path, "r", manager=manager) as io:
            return [" ".join(str(problem).split()) for problem in pynwb.validate(io=io)]


def external_link(path: Path) -> str:
    """The name of a link to another file in an HDF5 file, empty where there is none."""
    with h5py.File(path, "r") as file:
        waiting = [file["/"]]
        while waiting:
            group = waiting.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    return f"{group.name.rstrip('/')}/{name} to {link.filename}"
                if isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is h5py.Group:
                    waiting.append(group[name])
    return ""


@contextmanager
def _io(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    import pynwb

    if not is_zarr(path):
        with pynwb.NWBHDF5IO(str(path), mode, **options) as io:
            yield io
        return
    try:
        from hdmf_zarr.nwb import NWBZarrIO
        from numcodecs import JSON
    except ImportError as error:
        raise NWBError(f"{path.name} is Zarr, which needs the extra: pip install 'nwb_lint[zarr]'.") from error
    if mode == "w":
        os.makedirs(path)
    with NWBZarrIO(str(path), mode=mode, object_codec_class=JSON, **options) as io:  # its default are Python pickles
        yield io


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what hdmf tells of extensions cached in other versions, and of its own future."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Ignoring cached namespace|.*[Ii]gnoring the following cached namespace"
        )
        warnings.filterwarnings("ignore", module="hdmf|pynwb|zarr|numcodecs")
        yield

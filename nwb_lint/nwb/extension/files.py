"""NWB files, HDF5 or Zarr, as they are written: a new one, or a copy of another with more in it. Both are validated.

The paths are temporary ones of `atomic.write_atomically`; nothing here is atomic by itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.extension.schema import get_classes
from nwb_lint.nwb.storage.asset import kind_of


def is_zarr(path: Path) -> bool:
    """Whether the name of a path is that of a Zarr folder."""
    return kind_of(path.name) == "zarr"


def write_new(nwbfile: Any, path: Path) -> None:
    """Write a pynwb NWBFile to a new file, HDF5 or Zarr by the ending of its path; NWBError where it is not valid."""
    with _quiet():
        if is_zarr(path):
            with _open_io(path, "w") as io:
                io.write(nwbfile)
        else:
            path.write_bytes(_hdf5_bytes(nwbfile))
    _refuse(_problems(path))


def write_copy(source: Path, path: Path, add: Callable[[Any], None]) -> None:
    """Copy a file, byte by byte, and add to the copy what ``add`` puts into its NWBFile.

    Raises NWBError where the copy would not be valid, or where the file links to other files, as the copy would.
    """
    if is_zarr(source):
        shutil.copytree(source, path, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, path)
        if link := external_link(path):
            raise NWBError(
                f"{source} has an external link ({link}). A copy needs all data in one file. Copy the linked data "
                "into the file first."
            )
    get_classes()  # before the file is read: pynwb would make classes of its own from the schemas in the file
    with _quiet(), _open_io(path, "r+" if is_zarr(path) else "a") as io:
        nwbfile = io.read()
        add(nwbfile)
        io.write(nwbfile)
    # an old recording may be at odds with today's schemas by itself; then only what was added has to be valid
    problems = _problems(path)
    if problems and _problems(source):
        problems = [line for line in problems if "processing/" in line]
    _refuse(problems)


def external_link(path: Path) -> str:
    """The name of a link to another file in an HDF5 file; empty where it has none."""
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


def _hdf5_bytes(nwbfile: Any) -> bytes:
    """The bytes of the HDF5 file, made in memory: HDF5 itself cannot recover from a full disk."""
    import pynwb

    memory = h5py.File("new.nwb", "w", driver="core", backing_store=False)
    with memory as file, pynwb.NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwbfile)
        file.flush()
        return bytes(file.id.get_file_image())


def _refuse(problems: list[str]) -> None:
    """Raise NWBError where the validator found problems."""
    if problems:
        raise NWBError(f"The file would not be valid NWB: {'; '.join(problems)}. Nothing was written.")


def _problems(path: Path) -> list[str]:
    """What the validator of pynwb finds in a file, by the schemas that the file carries."""
    with _quiet():
        return [one_line(problem) for problem in (_zarr_problems if is_zarr(path) else _hdf5_problems)(path)]


def _hdf5_problems(path: Path) -> list[Any]:
    import pynwb
    from hdmf.build import BuildManager

    schemas = _schemas(path)
    if not schemas.validators:
        return pynwb.validate(path=str(path))
    with _open_io(path, "r", manager=BuildManager(type_map=schemas.type_map)) as io:
        builder = io.read_builder()
        return [problem for validator in schemas.validators for problem in validator.validate(builder)]


def _zarr_problems(path: Path) -> list[Any]:
    import pynwb
    from pynwb.validation import get_cached_namespaces_to_validate

    with _open_io(path, "r") as io:
        manager = get_cached_namespaces_to_validate(io=io)[1]
    with _open_io(path, "r", manager=manager) as io:
        return pynwb.validate(io=io)


class _Schemas(NamedTuple):
    """The schemas of a file as hdmf has them: the map of their types, and a validator for each extension."""

    type_map: Any
    validators: list[Any]


_PARSED: dict[bytes, _Schemas] = {}  # by the digest of the schemas: parsing takes five times as long as validating
_MOST_PARSED = 4


def _schemas(path: Path) -> _Schemas:
    """The schemas that an HDF5 file carries, parsed once for all files with the same ones."""
    from hdmf.validate import ValidatorMap
    from pynwb.validation import get_cached_namespaces_to_validate

    with h5py.File(path, "r") as file:
        key = _digest_of_texts(file["specifications"]) if "specifications" in file else b""
    if key not in _PARSED:
        names, manager, _ = get_cached_namespaces_to_validate(path=str(path))
        validators = [ValidatorMap(manager.namespace_catalog.get_namespace(name=name)) for name in names]
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        _PARSED[key] = _Schemas(manager.type_map if names else None, validators)
    return _PARSED[key]


def _digest_of_texts(group: h5py.Group) -> bytes:
    """SHA-256 of all datasets of a group, at any depth."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item[()]!r}".encode())

    group.visititems(add)
    return digest.digest()


@contextmanager
def _open_io(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """The IO of pynwb or of hdmf-zarr for a path."""
    import pynwb

    if not is_zarr(path):
        with pynwb.NWBHDF5IO(str(path), mode, **options) as io:
            yield io
        return
    try:
        from hdmf_zarr.nwb import NWBZarrIO
        from numcodecs import JSON
    except ImportError as error:
        raise NWBError(f"{path.name} is Zarr. It needs the extra zarr: pip install 'nwb_lint[zarr]'.") from error
    if mode == "w":
        os.makedirs(path)
    with NWBZarrIO(str(path), mode=mode, object_codec_class=JSON, **options) as io:  # its default are Python pickles
        yield io


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of hdmf about extensions cached in other versions, and about its own future."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Ignoring cached namespace|.*[Ii]gnoring the following cached namespace"
        )
        warnings.filterwarnings("ignore", module="hdmf|pynwb|zarr|numcodecs")
        yield

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError, NWBLintError, one_line
from nwb_lint.nwb.extension.links import check_links
from nwb_lint.nwb.extension.schema import get_classes
from nwb_lint.nwb.storage.asset import kind_of
from nwb_lint.nwb.storage.h5 import holds_text, is_dataset, is_group, load
from nwb_lint.nwb.storage.zarr import consolidate, written_version
from nwb_lint.parallel.warnings import warn

_CREATED = "file_create_date"
_FACTS = ("identifier", "session_description", "session_start_time", "timestamps_reference_time", _CREATED)
_LONGEST_REASON = 300  # characters of an error of pynwb


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

    A copy without file_create_date gets the time of copying, as pynwb needs one; that is a warning.

    Raises NWBError where pynwb cannot read the file, where the copy would not be valid, or where links lead out of the
    file or in a circle.
    """
    if is_zarr(source):
        _refuse_links_of_folders(source)
        shutil.copytree(source, path, dirs_exist_ok=True)
    else:
        check_links(source, "A copy")
        path.touch(source.stat().st_mode & 0o777 | 0o600)  # a private recording has private copies
        shutil.copyfile(source, path)
        _complete(path, source)
    get_classes()  # before the file is read: pynwb would make classes of its own from the schemas in the file
    with _quiet(), _pynwb_errors(source), _open_io(path, "r+" if is_zarr(path) else "a") as io:
        with _disk_errors(source):
            nwbfile = io.read()
        add(nwbfile)
        io.write(nwbfile)
    if is_zarr(path):
        consolidate(path)
    # an old recording may be at odds with today's schemas by itself; then only what was added has to be valid
    with _pynwb_errors(source), _disk_errors(source):
        problems = _problems(path)
        if problems and _problems(source):
            problems = [line for line in problems if "processing/" in line]
    _refuse(problems)


def _complete(path: Path, source: Path) -> None:
    """Add to a copy the date that pynwb needs; NWBError where other facts of the session are missing or no text."""
    with h5py.File(path, "r") as file:
        lack = [name for name in _FACTS if file.get(name, getlink=True) is None]
        wrong = [name for name in _FACTS if name not in lack and not _is_text(file, name)]
    wrong += [name for name in lack if name != _CREATED]
    if wrong:
        raise NWBError(
            f"{source} has no {' and no '.join(wrong)} that pynwb accepts. A fit goes only into a recording that pynwb "
            "reads. Write the fit to a file of its own: write_fit(fit, path, source=recording)."
        )
    if lack:
        with h5py.File(path, "r+") as file:
            now = [datetime.now(UTC).isoformat()]
            file.create_dataset(_CREATED, data=now, dtype=h5py.string_dtype(), maxshape=(None,), chunks=True)
        warn(f"{source} has no {_CREATED}, which pynwb needs. The copy has the time of copying.")


def _is_text(file: h5py.File, name: str) -> bool:
    """Whether there is a text at a path, or a list of them; the dates need to be dates."""
    try:
        item = file.get(name)
        if not is_dataset(item) or not holds_text(item) or item.shape is None or item.size < 1:
            return False
        texts = [value.decode() if isinstance(value, bytes) else str(value) for value in np.ravel(load(item))]
        if name != _CREATED and len(texts) > 1:
            return False
        return name in ("identifier", "session_description") or all(map(datetime.fromisoformat, texts))
    except (NWBError, TypeError, ValueError, OSError, RuntimeError, KeyError):  # of what h5py, or a date, cannot be
        return False


def _refuse_links_of_folders(source: Path) -> None:
    """Raise NWBError where a link in a Zarr folder leads out of it, or to a folder that it lies in."""
    root = source.resolve()
    for folder, names, files in os.walk(source):
        for link in (Path(folder, name) for name in names + files):
            if not link.is_symlink():
                continue
            if not link.resolve().is_relative_to(root):
                raise NWBError(f"{link} is a link out of {source}. A copy needs all data in one store. Copy that too.")
            if Path(folder).resolve().is_relative_to(link.resolve()):
                raise NWBError(f"{link} is a link to a folder that it lies in: a circle. Remove the link.")


@contextmanager
def _pynwb_errors(source: Path) -> Iterator[None]:
    """Give an NWBError for what pynwb and hdmf raise where a file is not what they need, except of the disk."""
    from hdmf.build.errors import BuildError, ConstructError

    damage: Any = (BuildError, ConstructError, LookupError, TypeError, ValueError, AttributeError, MemoryError)
    if is_zarr(source):
        damage = Exception  # zarr and its codecs raise errors of every kind
    try:
        yield
    except (NWBLintError, OSError, RuntimeError):
        raise
    except damage as error:
        raise _unreadable(source, error) from error


@contextmanager
def _disk_errors(source: Path) -> Iterator[None]:
    """The same for what HDF5 raises where a file that is only read cannot be."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: BaseException) -> NWBError:
    why = one_line(error.args[-1] if error.args else "")  # hdmf puts whole groups before the reason
    why = f"{type(error).__name__}: {why}"
    why = why if len(why) <= _LONGEST_REASON else f"{why[:_LONGEST_REASON]}…"
    return NWBError(
        f"{source} cannot be read or completed by pynwb ({why}). A fit goes only into a recording that pynwb reads. "
        "Write the fit to a file of its own: write_fit(fit, path, source=recording)."
    )


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
    import pynwb
    from hdmf.build import BuildManager

    with _quiet():
        schemas = _schemas(path)
        manager = BuildManager(type_map=schemas.type_map) if schemas.validators else None
        with _open_io(path, "r", manager=manager) as io:
            if manager is None:
                found = pynwb.validate(io=io)
            else:
                builder = io.read_builder()
                found = [problem for validator in schemas.validators for problem in validator.validate_once(builder)]
            return [one_line(problem) for problem in found]


class _Schemas(NamedTuple):
    """The schemas of a file as hdmf has them: the map of their types, and a validator for each extension."""

    type_map: Any
    validators: list[Any]


_PARSED: dict[bytes, _Schemas] = {}  # by the digest of the schemas: parsing takes five times as long as validating
_MOST_PARSED = 4


def _schemas(path: Path) -> _Schemas:
    """The schemas that a file carries, parsed once for all files with the same ones."""
    from pynwb.validation import get_cached_namespaces_to_validate

    from nwb_lint.nwb.extension.validator import QuickValidatorMap

    key = _digest_of_schemas(path)
    if key not in _PARSED:
        with _open_io(path, "r", load_namespaces=False) as io:
            names, manager, _ = get_cached_namespaces_to_validate(io=io)
        validators = [QuickValidatorMap(manager.namespace_catalog.get_namespace(name=name)) for name in names]
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        _PARSED[key] = _Schemas(manager.type_map if names else None, validators)
    return _PARSED[key]


def _digest_of_schemas(path: Path) -> bytes:
    """SHA-256 of the schemas that a file carries, HDF5 or Zarr; empty where it carries none."""
    digest = hashlib.sha256()
    if is_zarr(path):
        digest.update(b"zarr")
        found = sorted(one for one in path.joinpath("specifications").rglob("*") if one.is_file())
        for one in found:
            digest.update(f"{one.relative_to(path)} ".encode() + one.read_bytes())
        return digest.digest() if found else b""

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item[()]!r}".encode())

    with h5py.File(path, "r") as file:
        cached = file.get("specifications")
        if not is_group(cached):
            return b""
        cached.visititems(add)
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
    is_version_2 = written_version() == 2
    if not is_version_2 and os.path.exists(os.path.join(path, ".zgroup")):
        raise NWBError(
            f"{path.name} is Zarr of version 2. The installed hdmf-zarr writes version 3. Install hdmf-zarr 0.13 "
            "to add to this folder."
        )
    if mode == "w":
        os.makedirs(path)

    class OneStore(NWBZarrIO):
        """Links and references that lead to another store are refused."""

        def resolve_ref(self, zarr_ref: Any) -> Any:
            other = zarr_ref.get("source") if isinstance(zarr_ref, dict) else None  # a text: a path in this store
            if other is None or os.path.realpath(os.path.join(path, other)) != os.path.realpath(path):
                raise NWBError(
                    f"{path.name} has a link to {zarr_ref.get('path')} of {other}, another store. A copy needs all "
                    "data in one store. Copy that part into it."
                )
            return super().resolve_ref(zarr_ref)

    if is_version_2:
        options["object_codec_class"] = JSON  # its default are Python pickles
    with OneStore(str(path), mode=mode, **options) as io:
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

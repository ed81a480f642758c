"""Sources: from a path, an address or a pattern to assets, and from an asset to an open NWB file."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import h5py

from nwb_lint.contract.checks import call_for
from nwb_lint.errors import ContractError, MissingFileError, NWBError, WorkerError, one_line
from nwb_lint.nwb.storage.asset import SCHEME, Asset, kind_of, refuse_pipe, without_secrets
from nwb_lint.nwb.storage.checked_file import CheckedFile
from nwb_lint.nwb.storage.dandi import digest_of_blob, find_assets, is_address, place_of_local
from nwb_lint.nwb.storage.h5 import dataset_text, root_text
from nwb_lint.parallel import opened
from nwb_lint.parallel.engine import run_tasks
from nwb_lint.parallel.stuck import ended_if_stuck
from nwb_lint.parallel.tasks import Outcome

Source = str | os.PathLike[str] | Asset

_GLOB = re.compile(r"[*?\[]")
_SCHEMES = ("dandi", "http", "https", "s3")
_FILES_AT_ONCE = 8  # that threads of this process read: most of the time goes to waiting
_FORMATS = {"hdf5": "HDF5", "zarr": "Zarr", "lindi": "LINDI", "memory": "HDF5"}


def open_nwb(source: Source, *, download: bool = False, external: bool = False) -> h5py.File:
    """Open one NWB file read-only: a local one, or one on a server.

    Close the file after use, or open it in a ``with`` statement. Remote files are streamed. Bytes that were read
    once are kept on disk: up to ``NWB_LINT_CACHE_GB`` (default 10) of the files that were used last, in the user's
    cache folder or in ``NWB_LINT_CACHE``.

    Parameters
    ----------
    source : str, os.PathLike or Asset
        A path: an HDF5 file, an NWB-Zarr folder (needs the extra ``zarr``), or a LINDI JSON file (``*.lindi.json``,
        needs the extra ``lindi``). Or an address of one of these: ``https://…``, ``s3://bucket/key``, or
        ``dandi://<dandiset>[/<version>]/<path>`` for a published or a draft version.
    download : bool, default=False
        Whether to copy a remote file to the cache folder as a whole, instead of streaming it.
    external : bool, default=False
        Whether other files that this one names are read too: those of external links, of HDF5 external storage, and
        sources of virtual datasets outside of its folder. Such a file can name any file of this machine.

    Returns
    -------
    h5py.File
        The open file. Zarr and LINDI give an object with the same members. What the file names and does not hold, such
        as the target of a broken link, is an `nwb_lint.errors.NWBError`, and never None or 0.

    Raises
    ------
    MissingFileError
        If there is no file at the path or address.
    NWBError
        If the source is a folder, not HDF5, truncated, not NWB, or if the server does not answer.

    Examples
    --------
    >>> with open_nwb("session.nwb") as file:
    ...     print(list(file["intervals"]))
    ['trials']
    """
    asset = one_asset(source, download=download, external=external)
    file = _open(asset)
    try:
        old = dataset_text(file, "nwb_version")  # an attribute since NWB 2
        is_nwb = bool(root_text(file, "nwb_version")) or root_text(file, "neurodata_type") == "NWBFile"
        names = ", ".join(str(name) for name in islice(file, 6)) or "nothing"  # a LINDI file has no length
    except (NWBError, ContractError, Warning):
        file.close()
        raise
    except _damage(asset) as error:
        file.close()
        raise _damaged(asset, error) from error
    if old and not is_nwb:
        file.close()
        raise NWBError(
            f"{asset} is of version {old[:40]!r}. That is NWB 1, another format. NWB 2 is needed. Convert the file."
        )
    if not is_nwb:
        file.close()
        raise NWBError(
            f"{asset} is {_FORMATS[asset.kind]} but not NWB: it has no nwb_version and holds {names}. Pass an NWB file."
        )
    return file


def _open(asset: Asset) -> h5py.File:
    opened.note(asset)
    if asset.kind == "memory":
        return CheckedFile(_Memory(asset.content, str(asset)), remote=True)
    if asset.kind != "hdf5":
        from nwb_lint.nwb.storage.zarr import open_lindi, open_zarr

        try:
            return open_zarr(asset) if asset.kind == "zarr" else open_lindi(asset)
        except (NWBError, ContractError, Warning):
            raise
        except Exception as error:
            raise _damaged(asset, error) from error
    if asset.remote:
        from nwb_lint.nwb.storage.streaming import open_remote

        return open_remote(asset)
    path = asset.path
    if not path.exists():
        raise MissingFileError(f"{path}: no such file. An NWB file is needed. Check the path.")
    if path.is_dir():
        raise NWBError(f"{path} is a folder. One NWB file (HDF5 or Zarr) is needed. Pass a file in it.")
    refuse_pipe(path)
    try:
        return CheckedFile(path, external=asset.external)
    except PermissionError as error:
        raise NWBError(f"{path} may not be read. Check its permissions.") from error
    except (OSError, RuntimeError) as error:
        raise NWBError(_why_not_opened(path, error)) from error


class _Memory(io.BytesIO):
    """The bytes of a file, which are not copied; h5py takes its text for the name of the file."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __repr__(self) -> str:
        return self._name


def _why_not_opened(path: Path, error: BaseException) -> str:
    """One line about the file itself, because the messages of HDF5 depend on its version."""
    size = path.stat().st_size
    if size == 0:
        return f"{path} is empty (0 bytes). An NWB file (HDF5) is needed. Get the file again."
    if not h5py.is_hdf5(path):
        return f"{path} is not HDF5{_format_of(path)}. An NWB file (HDF5) is needed. Check the path."
    if "truncated" in str(error):
        return f"{path} is truncated: its end is missing after {size} bytes. Get the file again."
    return f"{path} cannot be opened as HDF5 ({one_line(error)}). Get the whole file again."


# First bytes of files that are passed for NWB by mistake.
_OTHER_FORMATS = {
    b"\x1f\x8b": "but compressed by gzip: unpack it", b"PK\x03\x04": "but a zip archive: unpack it",
    b"version https://git-lfs": "but a pointer of Git LFS: get the file by git lfs pull",
    b"/annex/": "but a pointer of git-annex: get the file by datalad get",
    b"../": "but a pointer of git-annex: get the file by datalad get", b"MATLAB 5": "but a MATLAB file before 7.3",
    b"CDF": "but netCDF 3", b"<": "but a page of a web server (HTML or XML)", b"{": "but JSON",
}  # fmt: skip


def _format_of(path: Path) -> str:
    """', but …' for a file of a format that its first bytes tell."""
    with path.open("rb") as file:
        head = file.read(32)
    return next((f", {text}" for start, text in _OTHER_FORMATS.items() if head.lstrip().startswith(start)), "")


@contextmanager
def reading(source: Source) -> Iterator[h5py.File]:
    """`open_nwb` for a ``with`` statement in which damage of the file and network failures are NWBErrors.

    Parameters
    ----------
    source : str, os.PathLike or Asset
        As for `open_nwb`.

    Yields
    ------
    h5py.File
        The open file; it is closed at the end.

    Raises
    ------
    NWBError
        If the file cannot be opened, or if reading it fails inside the ``with`` statement.
    """
    asset = one_asset(source)
    with open_nwb(asset) as file:
        try:
            yield file
        except (NWBError, ContractError, Warning):
            raise
        except _damage(asset) as error:
            raise _damaged(asset, error) from error


def _damage(asset: Asset) -> tuple[type[Exception], ...]:
    """What is raised where an object or a block of data cannot be read: lindi and zarr raise errors of every kind."""
    return (OSError, RuntimeError, KeyError, MemoryError) if asset.kind in ("hdf5", "memory") else (Exception,)


def _damaged(asset: Asset, error: BaseException) -> NWBError:
    if asset.remote or asset.kind == "lindi":
        from nwb_lint.nwb.storage.http import describe_error

        return NWBError(f"Reading {asset} failed: {describe_error(error)}. Try again, or check the file.")
    return NWBError(f"{asset} is damaged: {one_line(error)}. Pass a whole NWB file.")


def run_on_files(
    work: Callable[..., Any], tasks: Sequence[tuple[Asset, dict[str, Any]]], *, executor: Any = None, **how: Any
) -> Iterator[tuple[int, Outcome]]:
    """Run ``work(asset, **options)`` for every file, and yield its position and outcome as files finish.

    Parameters
    ----------
    work : callable
        A function at the top level of a module.
    tasks : sequence of (Asset, dict)
        The file and the keyword options of each call.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the calls; None is threads of this process. A single file is read in this thread.
    **how
        As for `nwb_lint.parallel.engine.run_tasks`.

    Yields
    ------
    tuple of int and Outcome
        Position of a file, and its outcome. An OSError of a file is an NWBError.
    """
    tasks, left = [(asset, options | {"work": work}) for asset, options in tasks], dict(enumerate(tasks))
    executor = executor if len(tasks) > 1 else None
    try:
        for position, outcome in run_tasks(_on_file, tasks, executor=executor, threads=_FILES_AT_ONCE, **how):
            del left[position]
            yield position, outcome
    except WorkerError as error:
        names = ", ".join(str(asset) for asset, _ in islice(left.values(), 3)) + ", …" * (len(left) > 3)
        raise WorkerError(
            f"{error} Or a file is damaged so that HDF5 crashed or did not return. Not read: {names}. See which by "
            "`nwb-lint inspect`."
        ) from None


def _on_file(asset: Asset, *, work: Callable[..., Any], **options: Any) -> Any:
    try:
        with ended_if_stuck():
            return work(asset, **options)
    except NWBError:
        raise
    except OSError as error:
        raise NWBError(f"{asset} cannot be read: {one_line(error)}. Try again.") from error


def one_asset(source: Source, *, download: bool = False, external: bool = False) -> Asset:
    """The one asset of a source.

    Parameters
    ----------
    source : str, os.PathLike or Asset
        As for `open_nwb`; a pattern may match one file only.
    download : bool, default=False
        Whether to copy a remote file to the cache folder.
    external : bool, default=False
        Whether other files that this one names are read too.

    Returns
    -------
    Asset
        The address of the file, and where its bytes are.

    Raises
    ------
    NWBError
        If the source matches no file, or several.
    """
    if isinstance(source, Asset) and not download:
        return source._replace(external=True) if external else source
    found = expand(source, download=download, external=external)
    if len(found) > 1:
        raise NWBError(f"{source} matches {len(found)} files. One is needed here. Pass each file by itself.")
    return found[0]


def expand(
    sources: Source | Sequence[Source],
    *,
    download: bool = False,
    external: bool = False,
    exclude: Sequence[str] = (),
    choose: Callable[[list[Asset]], list[Asset]] | None = None,
) -> list[Asset]:
    """The assets of one source or several.

    No file is opened. Addresses of DANDI are looked up in the archive.

    Parameters
    ----------
    sources : str, os.PathLike, Asset, or a sequence of these
        Paths and addresses as for `open_nwb`. A local path may be a pattern with ``*``, ``?`` or ``[``, and a DANDI
        address one with ``*``: it gives all files that match, sorted.
    download : bool, default=False
        Whether to copy remote files to the cache folder. Their addresses stay the same.
    external : bool, default=False
        Whether other files that these ones name are read too.
    exclude : sequence of str, default=()
        Patterns of files that are left out: of their path in a dandiset, of their address or path, or of their name.
    choose : callable or None, default=None
        Which of the files to keep, where one source is a pattern that matches several.

    Returns
    -------
    list of Asset
        One asset for each file, in the order of the sources.

    Raises
    ------
    ContractError
        If the list is empty, a file is in it twice, or an item is not a path, an address or an asset.
    MissingFileError
        If a pattern matches no file.
    NWBError
        If the kind of an address is not supported, an archive does not answer, or ``exclude`` leaves out all files.
    """
    several = isinstance(sources, Iterable) and not isinstance(sources, bytes | str | os.PathLike | Asset)
    call = call_for(sources)
    items: list[Any] = list(cast(Iterable, sources)) if several and not call else [sources]
    assets: list[Asset] = []
    for item in items:
        if not isinstance(item, str | os.PathLike | Asset):
            kind = f"a {type(item).__name__}" if (call := call or call_for(item)) else repr(item)
            raise ContractError(
                f"source is {kind}. It needs to be a path, an address, or a list of them. {call or 'Pass one.'}"
            )
        found = [item] if isinstance(item, Asset) else _assets(item)
        kept = [asset for asset in found if not _excluded(asset, exclude)]
        assets += choose(kept) if choose and len(kept) > 1 else kept
    if not assets and items:
        raise NWBError(f"exclude={list(exclude)} leaves out all files. At least one is needed. Use fewer patterns.")
    if not assets:
        raise ContractError("sources is empty. At least one NWB file is needed. Pass a path.")
    first: dict[str, Asset] = {}
    for asset in assets:
        key = asset.location if asset.remote else os.path.realpath(asset.location)
        if key in first:
            raise ContractError(f"{asset} is listed twice (also as {first[key]}). Each file may come once. Remove one.")
        first[key] = asset
    if download:
        from nwb_lint.nwb.storage.download import download_asset

        assets = [download_asset(asset) for asset in assets]
    return [asset._replace(external=True) for asset in assets] if external else assets


def is_path(source: str) -> bool:
    """Whether a source is a path or a pattern of paths, and no address."""
    return "://" not in source and not is_address(source)


def _excluded(asset: Asset, patterns: Sequence[str]) -> bool:
    names = (asset.place.path, asset.address, asset.address.rpartition("/")[2])
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _assets(item: str | os.PathLike[str]) -> list[Asset]:
    """The assets of one path, in which ``~`` is the home folder, or of one address."""
    text = os.fspath(item)
    scheme = SCHEME.match(text)
    if isinstance(item, str) and is_address(text):
        return find_assets(text)
    if scheme is None:
        path = os.path.expanduser(text)
        if isinstance(item, str) and _GLOB.search(path) and not Path(path).exists():
            found = sorted(glob.glob(path, recursive=True))
            if not found:
                raise MissingFileError(f"{item}: no file matches. At least one NWB file is needed. Check the path.")
            return [_local(name) for name in found]
        return [_local(str(Path(path)))]
    if scheme[1].lower() not in _SCHEMES or not text.startswith(f"{scheme[0]}/"):
        kinds = ", ".join(f"{name}://" for name in _SCHEMES)
        shown = without_secrets(text)
        raise NWBError(f"{shown} is an address of a kind that is not supported. Pass a path, or one of {kinds}.")
    location = _s3_url(text) if scheme[1] == "s3" else text
    location, kind = location.rstrip("/"), kind_of(text.partition("?")[0])
    return [Asset(without_secrets(text), location, kind, digest_of_blob(location))]


def _local(path: str) -> Asset:
    """A local file; a folder is Zarr if its content or its name says so."""
    kind = kind_of(path)
    if any(os.path.isfile(os.path.join(path, name)) for name in (".zgroup", "zarr.json")):
        kind = "zarr"
    elif kind == "zarr" and not os.path.isdir(path):
        kind = "hdf5"
    return Asset(path, path, kind, place=place_of_local(Path(path)))


def _s3_url(address: str) -> str:
    """The https address of a public object. ``AWS_ENDPOINT_URL`` names another server, as for Amazon's tools."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket or not key:
        shown = without_secrets(address)
        raise NWBError(f"{shown} names no object. It needs to be like s3://bucket/path/file.nwb. Check it.")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint or "." in bucket:  # a certificate covers one label before the host
        return f"{(endpoint or 'https://s3.amazonaws.com').rstrip('/')}/{bucket}/{quote(key)}"
    return f"https://{bucket}.s3.amazonaws.com/{quote(key)}"

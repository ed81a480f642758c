"""Upload the file of a fit to a dandiset, with the client of DANDI: path, validation, upload.

The API key is the one that dandi itself uses. It is sent only to the archive's API, over https (or to this machine).
Other addresses that the answers of the API name get no key.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h5py

from nwb_lint.errors import ContractError, NWBError, one_line
from nwb_lint.nwb.extension.links import check_links
from nwb_lint.nwb.extension.read import check_version, choose_entry, find_entries, reading_errors
from nwb_lint.nwb.extension.schema import FIT_TYPE
from nwb_lint.nwb.storage.asset import kind_of
from nwb_lint.nwb.storage.atomic import make_file
from nwb_lint.nwb.storage.dandi import DANDISET, authenticate, client_errors, open_client
from nwb_lint.nwb.storage.metadata import check_subject, missing_for_dandi, read_metadata
from nwb_lint.nwb.storage.source import open_nwb

_NOT_IN_LABELS = re.compile(r"[_*\\/<>:|\"'?%@;,.\s]+")
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


class Published(NamedTuple):
    """What `publish` did.

    Attributes
    ----------
    address : str
        Address of the file in the archive, ``dandi://…``.
    warnings : list of str
        What the archive's validators found that is not an error.
    sent : bool
        Whether the file was uploaded. False for a dry run, or where the archive has the same file already.
    """

    address: str
    warnings: list[str]
    sent: bool


def publish(
    path: str | Path,
    dandiset: str,
    *,
    instance: str = "",
    dry_run: bool = False,
    subject: dict[str, str] | None = None,
) -> Published:
    """Upload the file of a fit to the draft of a dandiset, if the archive's validators accept it.

    The file goes to the path that `dandi_path` gives. Another file at that path is replaced; a file of the same bytes
    stays. The local file is not changed.

    Parameters
    ----------
    path : path
        An HDF5 file that `write_fit` wrote. Zarr is not accepted: the client of DANDI does not validate it and does not
        read its subject.
    dandiset : str
        Identifier of the dandiset, six digits.
    instance : str, default=""
        Name or address of the archive. Empty takes that of the environment variable ``DANDI_INSTANCE``, or DANDI.
    dry_run : bool, default=False
        Whether to validate only. Nothing is sent, and the archive is not contacted.
    subject : dict or None, default=None
        Entries that the file's subject does not have, such as ``age``. They go into the copy that is sent.

    Returns
    -------
    Published
        Address, warnings of the validators, and whether the file was sent.

    Raises
    ------
    ContractError
        If ``dandiset`` is not six digits, or ``subject`` has an entry that NWB does not have.
    MissingFileError
        If there is no such file.
    NWBError
        If the file holds no fit, has an external link, or has no complete subject; if the validators find an error; if
        the archive refuses the key or does not answer.

    Examples
    --------
    >>> subject = {"age": "P90D"}
    >>> publish("fit.nwb", "000123", dry_run=True, subject=subject).sent  # doctest: +SKIP
    False
    """
    source = Path(path)
    if not DANDISET.fullmatch(dandiset):
        raise ContractError(f"dandiset is {dandiset!r}. It needs six digits, such as 000123.")
    _check_file(source)
    place = dandi_path(source)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder, place)
        make_file(staged, private=True)
        shutil.copyfile(source, staged)
        _complete_subject(staged, subject or {}, source)
        asset, found = _validate(staged, Path(folder), source)
        address = f"dandi://{dandiset}/draft/{place}"
        if dry_run:
            return Published(address, found, False)
        with open_client(instance, address) as client, client_errors(address), _api_key(client, address):
            name = client.dandi_instance.name
            address = address if name == "dandi" else f"dandi://{name}/{dandiset}/draft/{place}"
            return Published(address, found, _upload(client, dandiset, asset))


def dandi_path(path: str | Path, *, description: str = "lowrank") -> str:
    """The path of a fit's file in a dandiset, from its subject and session.

    Parameters
    ----------
    path : path
        A file that `write_fit` wrote.
    description : str, default="lowrank"
        The text after ``desc-``.

    Returns
    -------
    str
        ``sub-<subject>/sub-<subject>_ses-<session>_desc-<description>_ecephys.nwb``.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file is not NWB, or has no subject_id.

    Examples
    --------
    >>> dandi_path("fit.nwb")
    'sub-mock/sub-mock_desc-lowrank_ecephys.nwb'
    """
    metadata = read_metadata(Path(path))
    subject, session = metadata.subject.get("subject_id", ""), "".join(metadata.general["session_id"][:1])
    if not _label(subject):
        raise NWBError(f"{path} has no subject_id. A path in a dandiset needs it. Write the fit with subject=.")
    middle = f"_ses-{_label(session)}" if _label(session) else ""
    name = f"sub-{_label(subject)}"
    return f"{name}/{name}{middle}_desc-{_label(description)}_ecephys.nwb"


def _check_file(path: Path) -> None:
    """Raise NWBError unless it is a whole HDF5 file with a fit, and without a link to another file."""
    if kind_of(path.name) == "zarr":
        raise NWBError(
            f"{path} is Zarr. The client of DANDI does not validate Zarr and does not read its subject. Write the fit "
            "to a file that ends in .nwb: write_fit(read_fit(…), …)."
        )
    if kind_of(path.name) != "hdf5":
        raise NWBError(f"{path} is not HDF5. An HDF5 file is needed. Write the fit to a file that ends in .nwb.")
    with reading_errors(path), open_nwb(path) as file:
        check_version(file, path)
        if not any(entry.type == FIT_TYPE for entry in find_entries(file)):
            choose_entry(file, None, (FIT_TYPE,), "fit", path)  # raises, and names what is there instead
    check_links(path, "An archive")


def _complete_subject(staged: Path, subject: dict[str, str], source: Path) -> None:
    """Add entries to the subject of the staged file; NWBError where it has them already or is still not complete."""
    check_subject(subject)
    with h5py.File(staged, "r+" if subject else "r") as file:
        group = file["general/subject"]
        for key, text in subject.items():
            if key in group:
                raise NWBError(
                    f"{source}: the subject has {key} already. subject= adds only what is missing. Drop {key}."
                )
            group.create_dataset(key, data=text, dtype=h5py.string_dtype())
        if lack := missing_for_dandi({key: True for key in group}):
            raise NWBError(
                f"{source}: the subject has no {', '.join(lack)}. The archive needs it. Pass it from the records of "
                f"the animal: subject={{{lack[0]!r}: …}}. Nothing was sent."
            )


def _validate(staged: Path, root: Path, source: Path) -> tuple[Any, list[str]]:
    """The client's asset of a staged file, and what the validators find; NWBError where they find an error."""
    from dandi.files import LocalFileAsset, dandi_file
    from dandi.validate import Severity
    from dandischema.consts import DANDI_SCHEMA_VERSION

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those that the validators give themselves
        asset: Any = dandi_file(staged, root)
        found = asset.get_validation_errors()
        # of the metadata alone: the method of an NWB file would validate the file once more
        found += LocalFileAsset.get_validation_errors(asset, schema_version=DANDI_SCHEMA_VERSION)
    lines = list(dict.fromkeys((one.severity, f"{one.id}: {one_line(one.message)}") for one in found))
    errors = [line for severity, line in lines if severity is not None and severity >= Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
        raise NWBError(f"{source} is not valid for the archive: {'; '.join(errors[:3])}{more}. Nothing was sent.")
    return asset, [line for _, line in lines]


def _upload(client: Any, dandiset: str, asset: Any) -> bool:
    """Upload the asset to the draft, in place of one at the same path; False where the same bytes are there."""
    from dandi.exceptions import NotFoundError

    draft = client.get_dandiset(dandiset, "draft")
    digest = asset.get_digest()
    try:
        old = draft.get_asset_by_path(asset.path)
    except NotFoundError:
        old = None
    if old is not None and (old.get_raw_metadata().get("digest") or {}).get("dandi:dandi-etag") == digest.value:
        return False
    metadata = asset.get_metadata(digest=digest, ignore_errors=False)
    asset.upload(draft, metadata.model_dump(mode="json", exclude_none=True), replacing=old)
    return True


@contextmanager
def _api_key(client: Any, address: str) -> Iterator[None]:
    """Give the client its key, for requests to the archive's API alone."""
    api = urlsplit(client.api_url)
    if api.scheme != "https" and api.hostname not in _THIS_MACHINE:
        raise NWBError(
            f"{address}: the address of the archive is {client.api_url}. A key is sent over https only. Pass an "
            "https address as instance=."
        )
    authenticate(client)
    header = client.session.headers.pop("Authorization")

    def add_key(request: Any) -> Any:
        url = urlsplit(request.url)
        if (url.scheme, url.netloc) == (api.scheme, api.netloc):
            request.headers["Authorization"] = header
        return request

    client.session.auth = add_key
    try:
        yield
    finally:
        client.session.auth = None


def _label(text: str) -> str:
    """The text without the characters that a label in a dandiset's path may not have."""
    return _NOT_IN_LABELS.sub("-", text).strip("-")

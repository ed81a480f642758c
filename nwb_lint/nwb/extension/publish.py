"""A fit's file into a dandiset, through the archive's own client: path, validation, upload.

The key is the client's. It goes to the archive's API alone, over https unless that is on this
machine, and wherever the API's answers lead: what else is asked is asked without it.
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

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.extension.read import check_version, choose, find_held, telling
from nwb_lint.nwb.extension.schema import FIT_TYPE
from nwb_lint.nwb.extension.write import external_link
from nwb_lint.nwb.storage.asset import kind_of
from nwb_lint.nwb.storage.dandi import DANDISET, authenticate, client_errors, open_client
from nwb_lint.nwb.storage.metadata import check_subject, missing_for_dandi, read_metadata
from nwb_lint.nwb.storage.source import open_nwb

_LABEL = re.compile(r"[_*\\/<>:|\"'?%@;,.\s]+")
_LOCAL = ("127.0.0.1", "::1", "localhost")


class Published(NamedTuple):
    """What became of a file: its address in the archive, what the validators told, and whether it was sent."""

    address: str
    told: list[str]
    sent: bool


def dandi_path(path: str | Path, *, description: str = "lowrank") -> str:
    """The path that a fit's file has in a dandiset, from its subject and session.

    Raises: NWBError where the file has no subject, or is none.

    Example:
        >>> dandi_path("fit.nwb")
        'sub-mock/sub-mock_desc-lowrank_ecephys.nwb'
    """
    said = read_metadata(Path(path))
    subject, session = said.subject.get("subject_id", ""), "".join(said.general["session_id"][:1])
    if not _label(subject):
        raise NWBError(f"{path} has no subject_id, which a path in a dandiset needs. Write it with subject=.")
    middle = f"_ses-{_label(session)}" if _label(session) else ""
    name = f"sub-{_label(subject)}"
    return f"{name}/{name}{middle}_desc-{_label(description)}_ecephys.nwb"


def publish(
    path: str | Path,
    dandiset: str,
    *,
    instance: str = "",
    dry_run: bool = False,
    subject: dict[str, str] | None = None,
) -> Published:
    """Put a fit's file into the draft of a dandiset, at `dandi_path`, once the archive's validators pass it.

    | argument | |
    |---|---|
    | path | an HDF5 file of `write_fit`; Zarr is refused: dandi's client tells the archive nothing of its content |
    | dandiset | six digits |
    | instance | name or address of the archive; default: ``DANDI_INSTANCE``, else DANDI itself |
    | dry_run | say where it would go and what the validators tell; nothing is sent or asked of the archive |
    | subject | entries that the file's subject lacks, such as age; they go into the copy that is sent |

    A file of the same bytes that is there already is left, another one at the path is replaced.

    Raises: NWBError, one line: no fit, an external link, no subject, what the validators refuse, an archive that
    refuses the key or does not answer.
    """
    source = Path(path)
    if not DANDISET.fullmatch(dandiset):
        raise NWBError(f"dandiset is {dandiset!r}; it needs six digits, such as 000123.")
    _check_file(source)
    place = dandi_path(source)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder, place)
        staged.parent.mkdir()
        shutil.copyfile(source, staged)
        _complete(staged, subject or {}, source)
        asset, told = _validated(staged, Path(folder), source)
        address = f"dandi://{dandiset}/draft/{place}"
        if dry_run:
            return Published(address, told, False)
        with open_client(instance, address) as client, client_errors(address), _key(client, address):
            name = client.dandi_instance.name
            address = address if name == "dandi" else f"dandi://{name}/{dandiset}/draft/{place}"
            return Published(address, told, _send(client, dandiset, asset))


def _check_file(path: Path) -> None:
    """Raise NWBError unless it is a whole HDF5 file with a fit, and with no link to another file."""
    if kind_of(path.name) == "zarr":
        raise NWBError(
            f"{path} is Zarr, which dandi's client sends without asking whether it is valid NWB and without "
            "its subject, which the archive needs. Write it to a file that ends in .nwb: write_fit(read_fit(…), …)."
        )
    if kind_of(path.name) != "hdf5":
        raise NWBError(f"{path} is not HDF5, which is what is published. Write the fit to a file that ends in .nwb.")
    with telling(path, "fit"), open_nwb(path) as file:
        check_version(file, path)
        if not any(held.type == FIT_TYPE for held in find_held(file)):
            choose(file, None, (FIT_TYPE,), "fit", path)  # which tells what is there instead
    if link := external_link(path):
        raise NWBError(f"{path} has an external link ({link}), which an archive cannot follow. Copy its data first.")


def _complete(staged: Path, subject: dict[str, str], source: Path) -> None:
    """Add entries to the subject of the staged file, which says nothing of them yet.

    Raises: NWBError where it does; ContractError where NWB knows no such entry.
    """
    check_subject(subject)
    with h5py.File(staged, "r+" if subject else "r") as file:
        told = file["general/subject"]
        for key, text in subject.items():
            if key in told:
                raise NWBError(f"{source} says {key} of its subject already; subject= adds what is missing. Drop it.")
            told.create_dataset(key, data=text, dtype=h5py.string_dtype())
        if lack := missing_for_dandi({key: True for key in told}):
            raise NWBError(
                f"{source}: the subject has no {', '.join(lack)}, which the archive needs. State what the animal's "
                f"records say: subject={{{lack[0]!r}: …}}, or --subject {lack[0]}=…; nothing was sent."
            )


def _validated(staged: Path, root: Path, source: Path) -> tuple[Any, list[str]]:
    """The client's asset of a staged file, and what is told of it short of an error."""
    from dandi.files import dandi_file
    from dandi.validate import Severity
    from dandischema.consts import DANDI_SCHEMA_VERSION

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the validators' own
        asset: Any = dandi_file(staged, root)
        found = [*asset.get_validation_errors(), *asset.get_validation_errors(schema_version=DANDI_SCHEMA_VERSION)]
    lines = list(dict.fromkeys((one.severity, f"{one.id}: {one_line(one.message)}") for one in found))
    refused = [line for severity, line in lines if severity is not None and severity >= Severity.ERROR]
    if refused:
        more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
        raise NWBError(f"{source} is not valid for the archive: {'; '.join(refused[:3])}{more}. Nothing was sent.")
    return asset, [line for _, line in lines]


def _send(client: Any, dandiset: str, asset: Any) -> bool:
    """Upload the asset to the draft, in place of one of the same path; False where it is there already."""
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
def _key(client: Any, address: str) -> Iterator[None]:
    """Give the client its key, for requests to the archive's API alone."""
    api = urlsplit(client.api_url)
    if api.scheme != "https" and api.hostname not in _LOCAL:
        raise NWBError(f"{address}: the archive {client.api_url} is not asked over https; a key is not sent there.")
    authenticate(client)
    header = client.session.headers.pop("Authorization")

    def give(request: Any) -> Any:
        asked = urlsplit(request.url)
        if (asked.scheme, asked.netloc) == (api.scheme, api.netloc):
            request.headers["Authorization"] = header
        return request

    client.session.auth = give
    try:
        yield
    finally:
        client.session.auth = None


def _label(text: str) -> str:
    """The text as a label of a path in a dandiset may have it."""
    return _LABEL.sub("-", text).strip("-")

"""Upload the file of a fit to a dandiset, with the client of DANDI: path, validation, metadata, upload.

The API key is the one that dandi itself uses. It is sent only to the archive's API, over https (or to this machine).
Other addresses that the answers of the API name get no key. What the file says about this computer is not sent: see
`nwb_lint.nwb.extension.private`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import xarray as xr

from nwb_lint import __version__
from nwb_lint.errors import ContractError, MissingFileError, NWBError, one_line
from nwb_lint.nwb.extension.container import describe
from nwb_lint.nwb.extension.links import check_links
from nwb_lint.nwb.extension.private import Cleaner, FitSource, clean_copy, search, sources_of
from nwb_lint.nwb.extension.read import check_version, choose_entry, find_entries, read_fit, reading_errors
from nwb_lint.nwb.extension.schema import FIT_TYPE
from nwb_lint.nwb.storage.asset import Place, kind_of
from nwb_lint.nwb.storage.atomic import make_file
from nwb_lint.nwb.storage.dandi import (
    DANDISET,
    Archive,
    archive_of,
    authenticate,
    find_assets,
    is_embargoed,
    open_client,
)
from nwb_lint.nwb.storage.metadata import check_subject, missing_for_dandi, read_metadata
from nwb_lint.nwb.storage.source import open_nwb
from nwb_lint.parallel.progress import progress_bar

_NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9+~=]+")
_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)  # of a fit whose recordings have none

# What to do where the archive refuses an upload, by the status of its answer.
_ADVICE = {
    401: "Get a new key from its web page",
    403: "Only owners may upload: ask an owner of the dandiset to add you",
    404: "Check the dandiset, and that you are an owner of it",
    409: "Wait a minute, and run this again",
    423: "Wait until the dandiset is published, and run this again",
    429: "Wait some minutes, and run this again",
}
_TAKEN = "Pass another description=, or replace=True for the file at the same path"
_UNEMBARGO = "Wait until the embargo of the dandiset is lifted, which the archive reports by mail, and run this again"


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
    notes : list of str
        What was replaced in the copy that was sent, since it is private.
    """

    address: str
    warnings: list[str]
    sent: bool
    notes: list[str]


def publish(
    path: str | Path,
    dandiset: str,
    *,
    instance: str = "",
    description: str = "lowrank",
    replace: bool = False,
    subject: dict[str, str] | None = None,
    allow_embargoed: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> Published:
    """Upload the file of a fit to the draft of a dandiset, if the archive's validators accept it.

    The file goes to the path that `dandi_path` gives. A file of the same bytes there stays. Absolute paths of this
    computer and secrets of addresses are replaced in the copy that is sent, and named in ``notes``. The local file is
    not changed. The metadata of the asset name the recordings that the fit was computed from.

    Parameters
    ----------
    path : path
        An HDF5 file that `write_fit` wrote. Zarr is not accepted: the client of DANDI does not validate it and does not
        read its subject.
    dandiset : str
        Identifier of the dandiset, six digits.
    instance : str, default=""
        Name or address of the archive. Empty takes that of the environment variable ``DANDI_INSTANCE``, or DANDI.
    description : str, default="lowrank"
        What the name of the file has after ``desc-``. Two fits of the same subject and session need two.
    replace : bool, default=False
        Whether another file at the same path is replaced.
    subject : dict or None, default=None
        Entries that the file's subject does not have, such as ``age``. They go into the copy that is sent. For a fit of
        several subjects, ``subject_id`` is the one under which the file is listed; the metadata name all.
    allow_embargoed : bool, default=False
        Whether a fit of embargoed recordings may go into a dandiset that everybody can read.
    dry_run : bool, default=False
        Whether to validate only. Nothing is sent, and the archive is not contacted.
    progress : bool, default=False
        Whether to show a progress bar of the upload.

    Returns
    -------
    Published
        Address, warnings of the validators, whether the file was sent, and what was replaced in it.

    Raises
    ------
    ContractError
        If ``dandiset`` is not six digits, or ``subject`` has an entry that NWB does not have.
    MissingFileError
        If there is no such file.
    NWBError
        If the file holds no fit, has an external link, or has no complete subject; if the validators find an error; if
        there is another file at the path; if a recording is embargoed; if the archive refuses the key or the upload, or
        does not answer.

    Examples
    --------
    >>> subject = {"age": "P90D"}
    >>> publish("fit.nwb", "000123", dry_run=True, subject=subject).sent  # doctest: +SKIP
    False
    """
    source, subject = Path(path), subject or {}
    if not DANDISET.fullmatch(dandiset):
        raise ContractError(f"dandiset is {dandiset!r}. It needs six digits, such as 000123.")
    fits = _fits(source)
    sources = list(dict.fromkeys(one for fit in fits for one in sources_of(fit)))
    subjects = _check_subjects(source, sources, subject)
    place = dandi_path(source, description=description, subject_id=subject.get("subject_id"))
    archive = archive_of(instance, str(source))
    name = "" if archive.name == "dandi" else archive.name
    address = Place(name, dandiset, "draft", place).address
    clean = Cleaner(sources)
    with _terminated_tidily(), _staged(source, Path(place).name, subject, clean) as staged:
        asset = _local_asset(staged, place)
        found = _validate(asset, source)
        if dry_run:
            return Published(address, found, False, clean.notes())
        with open_client(archive, address) as client, _refusals(address):
            authenticate(client)
            draft = client.get_dandiset(dandiset, "draft")
            if draft.embargo_status.value == "OPEN" and not allow_embargoed:
                _refuse_embargoed(source, [one.place for one in sources], "was computed from recordings in")
                _refuse_embargoed(source, _in_known_archives(clean.places, archive), "names recordings in")
            metadata = _metadata(asset, clean(describe(fits[0])), sources, subjects, archive)
            sent = _upload(draft, asset, metadata, replace=replace, progress=progress)
        return Published(address, found, sent, clean.notes())


def dandi_path(path: str | Path, *, description: str = "lowrank", subject_id: str | None = None) -> str:
    """The path of a fit's file in a dandiset, from its subject and session.

    Parameters
    ----------
    path : path
        A file that `write_fit` wrote.
    description : str, default="lowrank"
        The text after ``desc-``.
    subject_id : str or None, default=None
        The subject; None takes that of the file.

    Returns
    -------
    str
        ``sub-<subject>/sub-<subject>_ses-<session>_desc-<description>_ecephys.nwb``.

    Raises
    ------
    ContractError
        If the description has no letter or digit.
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
    subject = subject_id or metadata.subject.get("subject_id", "")
    session = "".join(metadata.general["session_id"][:1])
    if not _label(subject):
        raise NWBError(f"{path} has no subject_id. A path in a dandiset needs it. Write the fit with subject=.")
    if not _label(description):
        raise ContractError(f"description is {description!r}. It needs a letter or a digit, such as 'rank2'.")
    middle = f"_ses-{_label(session)}" if _label(session) else ""
    name = f"sub-{_label(subject)}"
    return f"{name}/{name}{middle}_desc-{_label(description)}_ecephys.nwb"


def _label(text: str) -> str:
    """The text without accents, and without the characters that a label in a dandiset's path may not have."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NOT_IN_LABELS.sub("-", plain).strip("-")


# -- the file --


def _fits(path: Path) -> list[xr.Dataset]:
    """The fits of a file; NWBError unless it is a whole HDF5 file with one, and without a link to another file."""
    if kind_of(path.name) == "zarr":
        raise NWBError(
            f"{path} is Zarr. The client of DANDI does not validate Zarr and does not read its subject. Write the fit "
            "to a file that ends in .nwb: write_fit(read_fit(…), …)."
        )
    if kind_of(path.name) != "hdf5":
        raise NWBError(f"{path} is not HDF5. An HDF5 file is needed. Write the fit to a file that ends in .nwb.")
    with reading_errors(path), open_nwb(path) as file:
        check_version(file, path)
        names = [entry.path for entry in find_entries(file) if entry.type == FIT_TYPE]
        if not names:
            choose_entry(file, None, (FIT_TYPE,), "fit", path)  # raises, and names what is there instead
    check_links(path, "An archive")
    return [read_fit(path, name) for name in names]


def _check_subjects(source: Path, sources: Sequence[FitSource], subject: Mapping[str, str]) -> list[str]:
    """The subjects of the fit's neurons; NWBError unless one is chosen for the file where these are several."""
    check_subject(subject)
    ids = list(dict.fromkeys(one.subject for one in sources if one.subject))
    own = read_metadata(source).subject.get("subject_id", "")
    if own != "+".join(ids) or len(ids) < 2:
        if own and "subject_id" in subject:
            raise _known_already(source, "subject_id")
        return ids if own in ids else []
    if subject.get("subject_id") not in ids:
        raise NWBError(
            f"{source}: its neurons are of {len(ids)} subjects ({', '.join(ids)}). An archive lists a file under one. "
            f"Choose it: subject={{'subject_id': {ids[0]!r}}}. Its metadata then name all."
        )
    return ids


@contextmanager
def _staged(source: Path, name: str, subject: Mapping[str, str], clean: Cleaner) -> Iterator[Path]:
    """The file to send: the source itself, or, where something has to be added or replaced, a copy of this name."""
    from dandi.files import find_bids_dataset_description

    with reading_errors(source):
        search(source, clean)
    source = source.absolute()
    plain = source.suffix == ".nwb" and find_bids_dataset_description(source.parent) is None
    if plain and not subject and not clean.replaced:
        _complete_subject(source, {}, source)
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="nwb_lint-") as folder:
        staged = Path(folder, name)
        make_file(staged, private=True)
        shutil.copyfile(source, staged)
        if clean.replaced:
            clean_copy(source, staged, clean)
            _fits(staged)  # their digests say that nothing else was changed
        _complete_subject(staged, subject, source)
        yield staged


def _complete_subject(staged: Path, subject: Mapping[str, str], source: Path) -> None:
    """Add entries to the subject of the staged file; NWBError where it has them already or is still not complete.

    Those of several animals are replaced: they were made of all of them.
    """
    with h5py.File(staged, "r+" if subject else "r") as file:
        if "general/subject" not in file:
            raise NWBError(f"{source} has no subject. An archive needs it. Write the fit with subject=.")
        group = file["general/subject"]
        several = "subject_id" in group and "subject_id" in subject
        for key, text in subject.items():
            if key in group and not several:
                raise _known_already(source, key)
            if key in group:
                del group[key]
            group.create_dataset(key, data=text, dtype=h5py.string_dtype())
        if lack := missing_for_dandi({key: True for key in group}):
            raise NWBError(
                f"{source}: the subject has no {', '.join(lack)}. The archive needs it. Pass it from the records of "
                f"the animal: subject={{{lack[0]!r}: …}}. Nothing was sent."
            )


def _known_already(source: Path, key: str) -> NWBError:
    return NWBError(f"{source}: the subject has {key} already. subject= adds only what is missing. Drop {key}.")


class _Terminated(BaseException):
    """SIGTERM."""


@contextmanager
def _terminated_tidily() -> Iterator[None]:
    """Leave ``with`` statements when the process is asked to end, so that temporary files are removed; then end."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# -- what the archive is told --


def _local_asset(staged: Path, place: str) -> Any:
    """The client's object for a file that goes to a place in a dandiset."""
    from dandi.files import NWBAsset

    return NWBAsset(filepath=staged, dandiset_path=staged.parent, path=place)


def _validate(asset: Any, source: Path) -> list[str]:
    """What the archive's validators find; NWBError where they find an error."""
    from dandi.files import LocalFileAsset
    from dandi.validate import Severity
    from dandischema.consts import DANDI_SCHEMA_VERSION

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those that the validators give themselves
        found = asset.get_validation_errors()
        # of the metadata alone: the method of an NWB file would validate the file once more
        found += LocalFileAsset.get_validation_errors(asset, schema_version=DANDI_SCHEMA_VERSION)
    lines = list(dict.fromkeys((one.severity, f"{one.id}: {one_line(one.message)}") for one in found))
    errors = [line for severity, line in lines if severity is not None and severity >= Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
        raise NWBError(f"{source} is not valid for the archive: {'; '.join(errors[:3])}{more}. Nothing was sent.")
    return [line for _, line in lines]


def _metadata(
    asset: Any, about: str, sources: Sequence[FitSource], subjects: Sequence[str], archive: Archive
) -> dict[str, Any]:
    """The metadata of the asset: what the client reads in the file, and what the file is of and was made of."""
    found = asset.get_metadata(digest=asset.get_digest(), ignore_errors=False)
    for session in found.wasGeneratedBy or []:
        if session.startDate == _NO_DATE:
            session.startDate = session.endDate = None
    metadata: dict[str, Any] = found.model_dump(mode="json", exclude_none=True)
    software = {"schemaKey": "Software", "name": "nwb_lint", "version": __version__}
    made = {"schemaKey": "Activity", "name": "Fit of a low-rank recurrent network", "wasAssociatedWith": [software]}
    metadata["description"] = about
    metadata["wasGeneratedBy"] = [*metadata.get("wasGeneratedBy", []), made]
    if people := metadata.get("wasAttributedTo"):
        shared = {key: people[0][key] for key in ("schemaKey", "species") if key in people[0]}
        people += [shared | {"identifier": name} for name in subjects if name != people[0]["identifier"]]
    if recordings := _resources(sources, archive):
        metadata["relatedResource"] = [*metadata.get("relatedResource", []), *recordings]
    return metadata


def _resources(sources: Sequence[FitSource], archive: Archive) -> list[dict[str, str]]:
    """The recordings that the fit is derived from, as resources: those that are in an archive."""
    found = []
    for place in (_of_main(one) for one in dict.fromkeys(source.place for source in sources)):
        if place.dandiset and not place.asset_id:  # from a downloaded dandiset
            try:
                place = _of_main(find_assets(place.address)[0].place)
            except NWBError:  # it is in that version no more
                continue
        if place.asset_id:
            found.append(
                {
                    "schemaKey": "Resource",
                    "identifier": f"dandiasset:{place.asset_id}",
                    "name": place.address or place.path,
                    "url": f"{archive_of(place.instance, archive.name).api}/assets/{place.asset_id}/",
                    "relation": "dcite:IsDerivedFrom",
                    "resourceType": "dcite:Dataset",
                }
            )
    return found


def _of_main(place: Place) -> Place:
    """The place with its archive: what a fit keeps without one is in the main archive."""
    return place._replace(instance=place.instance or "dandi")


def _in_known_archives(places: Iterable[Place], archive: Archive) -> list[Place]:
    """The places in archives that dandi knows, or in this one: no other host is asked because a text names it.

    A text such as that of a recipe may name no archive; it means the one in use.
    """
    from dandi.consts import known_instances

    in_use = archive_of("", archive.name).name
    named = [place._replace(instance=place.instance or in_use) for place in places]
    return [place for place in named if place.instance in (in_use, archive.name, *known_instances)]


def _refuse_embargoed(source: Path, places: Iterable[Place], how: str) -> None:
    """Raise NWBError where a place is embargoed; ``how`` says what the fit has to do with it."""
    checked: set[tuple[str, str]] = set()
    for place in map(_of_main, places):
        where = place.dandiset or place.asset_id
        if where and (place.instance, where) not in checked and _embargoed(source, place):
            raise NWBError(
                f"{source} {how} {where} of {place.instance}, which are embargoed. Everybody can read the dandiset "
                "that it would go to. Publish it in an embargoed dandiset, or pass allow_embargoed=True. Nothing was "
                "sent."
            )
        checked.add((place.instance, where))


def _embargoed(source: Path, place: Place) -> bool:
    try:
        return is_embargoed(place)
    except NWBError as error:
        raise NWBError(
            f"{source}: whether its recordings are embargoed is not known. {error} Or pass allow_embargoed=True, "
            "if they are not."
        ) from error


# -- the upload --


def _upload(draft: Any, asset: Any, metadata: dict[str, Any], *, replace: bool, progress: bool) -> bool:
    """Upload the asset to the draft; False where the same bytes are there.

    Raises: NWBError where another file is at the path, and it is not to be replaced.
    """
    from dandi.exceptions import NotFoundError

    try:
        old = draft.get_asset_by_path(asset.path)
    except NotFoundError:
        old = None
    if old is not None:
        known = old.get_raw_metadata().get("digest") or {}
        if known.get("dandi:dandi-etag") == metadata["digest"]["dandi:dandi-etag"]:
            return False
        if not replace:
            raise NWBError(
                f"another file is at {asset.path}. A second fit of the same subject and session needs a name of its "
                "own. Pass description=, such as description='rank2', or replace=True to replace that file."
            )
    size = asset.filepath.stat().st_size
    with progress_bar(progress, f"uploading {asset.path}", unit="byte", total=size) as bar:
        for status in asset.iter_upload(draft, metadata, replacing=old):
            bar.update(status.get("current", bar.n) - bar.n)
    return True


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Raise an NWBError of one line, with the archive's own words, where it refuses a call or does not answer."""
    import requests
    from dandi.exceptions import NotFoundError

    from nwb_lint.nwb.storage.http import describe_error, words_of

    try:
        yield
    except NWBError as error:
        if str(error).startswith(address):
            raise
        raise NWBError(f"{address}: {error}") from error
    except NotFoundError as error:
        raise MissingFileError(f"{address}: {one_line(error)}. {_ADVICE[404]}.") from error
    except requests.HTTPError as error:
        raise _refused(address, error.response, words_of) from error
    except requests.Timeout as error:
        raise NWBError(
            f"{address}: the archive did not answer in time ({describe_error(error)}). Run this again: what was "
            "uploaded is not sent twice."
        ) from error
    except (requests.RequestException, OSError) as error:
        raise NWBError(f"{address}: {describe_error(error)}. Run this again later.") from error
    except RuntimeError as error:  # the client's own, such as that the file was changed while it was sent
        raise NWBError(f"{address}: {one_line(error)}. Run this again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NWBError(
            f"{address}: the answer of the archive cannot be read ({one_line(error)}). Update dandi."
        ) from error


def _refused(address: str, response: Any, words_of: Any) -> NWBError:
    status = 0 if response is None else response.status_code
    said = "" if response is None else words_of(response)
    says = f" It says: {said!r}." if said else ""
    by_words = {"unembargo": _UNEMBARGO, "path already exists": _TAKEN, "conflicts with existing": _TAKEN}
    advice = next((one for words, one in by_words.items() if words in said.lower()), None)
    advice = advice or _ADVICE.get(status, "Run this again later")
    kind = MissingFileError if status == 404 else NWBError
    return kind(f"{address}: the archive refuses this (status {status}).{says} {advice}.")

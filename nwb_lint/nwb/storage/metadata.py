"""What NWB files say about themselves: identifiers, session and subject; and the same for a file derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from nwb_lint.errors import ContractError, one_line
from nwb_lint.nwb.storage.h5 import (
    as_text,
    dataset_text,
    find_dataset,
    holds_text,
    is_group,
    member_or_error,
    root_text,
)
from nwb_lint.nwb.storage.source import Source, reading

SUBJECT_KEYS = (
    "subject_id", "species", "sex", "age", "date_of_birth", "strain", "genotype", "weight", "description",
)  # fmt: skip
_DANDI_NEEDS = (("subject_id",), ("species",), ("sex",), ("age", "date_of_birth"))  # one of each
_LISTS = ("experimenter", "keywords", "related_publications")
_SINGLE = ("institution", "lab", "session_id", "experiment_description")
_AGE = re.compile(r"P(\d+(?:\.\d+)?)([YMWD])")


class Provenance(NamedTuple):
    """The identifiers in one NWB file; an entry that the file does not have is empty.

    Attributes
    ----------
    path : str
        Path or address.
    identifier, object_id, units_object_id : str
        Identifier of the file, object id of its root, object id of its units table.
    session_id, subject_id : str
        Ids of session and subject.
    """

    path: str
    identifier: str
    object_id: str
    units_object_id: str
    session_id: str
    subject_id: str


def provenance(file: h5py.File, path: object, units_table: str | None = None) -> Provenance:
    """The identifiers of an open file.

    Parameters
    ----------
    file : h5py.File
        From `open_nwb`.
    path : str, os.PathLike or Asset
        The path or address of the file.
    units_table : str or None, default=None
        Path of the units table in the file; None means ``/units``.

    Returns
    -------
    Provenance
        Texts; empty where the file has none.
    """
    units = member_or_error(file, units_table or "units")  # if it cannot be opened, reading the units says why
    return Provenance(
        path=str(path),
        identifier=dataset_text(file, "identifier"),
        object_id=root_text(file, "object_id"),
        units_object_id=as_text(units.attrs.get("object_id", "")) if is_group(units) else "",
        session_id=dataset_text(file, "general/session_id"),
        subject_id=dataset_text(file, "general/subject/subject_id"),
    )


def session_labels(files: Sequence[Provenance]) -> list[str]:
    """One label for each file, as unique as the files allow.

    Parameters
    ----------
    files : sequence of Provenance
        From `provenance`.

    Returns
    -------
    list of str
        The session id, else the identifier, else the name of the file without its ending. Files that would share a
        label get the name of the file, or the whole path.
    """
    stems = [Path(item.path.removesuffix(".zarr").removesuffix(".lindi.json")).stem for item in files]
    labels = [item.session_id or item.identifier or stem for item, stem in zip(files, stems, strict=True)]
    for fallback in (stems, [item.path for item in files]):
        counts = {label: labels.count(label) for label in labels}
        labels = [other if counts[label] > 1 else label for label, other in zip(labels, fallback, strict=True)]
    return labels


class Metadata(NamedTuple):
    """The metadata of one NWB file; an entry that the file does not have is empty.

    Attributes
    ----------
    subject : dict of str to str
        Entries of `SUBJECT_KEYS`.
    general : dict of str to list of str
        Experimenters, keywords, publications, institution, lab, session id, experiment description.
    start : datetime or None
        Start of the session.
    description : str
        Description of the session.
    """

    subject: dict[str, str]
    general: dict[str, list[str]]
    start: datetime | None
    description: str


def read_metadata(source: Source) -> Metadata:
    """Read the metadata that a derived file takes over.

    Parameters
    ----------
    source : str, os.PathLike or Asset
        One NWB file, as for `open_nwb`.

    Returns
    -------
    Metadata
        What is in the file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If it is not an NWB file, or cannot be read.
    """
    with reading(source) as file:
        general = {name: _texts(file, f"general/{name}") for name in (*_LISTS, *_SINGLE)}
        found = {name: "".join(_texts(file, f"general/subject/{name}")[:1]) for name in SUBJECT_KEYS}
        subject = {name: text for name, text in found.items() if text}
        start = _time("".join(_texts(file, "session_start_time")[:1]))
        description = "".join(_texts(file, "session_description")[:1])
        return Metadata(subject, general, start, description)


def file_fields(sources: Sequence[Metadata], override: dict[str, Any] | None, summary: str) -> dict[str, Any]:
    """Arguments of the pynwb NWBFile of a derived file, except for its identifier.

    Experimenters, keywords and publications of all sources are listed. Institution, lab, session id and experiment
    description are kept where all sources agree.

    Parameters
    ----------
    sources : sequence of Metadata
        From `read_metadata`.
    override : dict or None
        Entries of the subject that replace those of the sources.
    summary : str
        One sentence about what the file holds.

    Returns
    -------
    dict
        Keyword arguments. ``session_start_time`` is the earliest start of the sources, or 1970-01-01 UTC if none is
        known; ``subject`` is a dict for `make_subject`.

    Raises
    ------
    ContractError
        If ``override`` has an entry that NWB does not know.
    """
    texts = {text.strip() for source in sources if (text := source.description)}
    about = f" Recording: {texts.pop()}" if len(texts) == 1 else ""
    fields: dict[str, Any] = {
        "session_description": f"Derived file, without the recording itself. {summary}{about}",
        "session_start_time": min((s.start for s in sources if s.start), default=datetime(1970, 1, 1, tzinfo=UTC)),
    }
    for name in _LISTS:
        values = list(dict.fromkeys(text for source in sources for text in source.general[name]))
        if values:
            fields[name] = values
    for name in _SINGLE:
        single = {tuple(source.general[name]) for source in sources}
        if len(single) == 1 and (value := single.pop()):
            fields[name] = value[0]
    subject = merge_subjects([source.subject for source in sources]) | (override or {})
    check_subject(subject)
    fields["subject"] = {key: value for key, value in subject.items() if value not in (None, "")}
    return fields


def check_subject(subject: Mapping[str, Any]) -> None:
    """Check that NWB knows every entry of a subject.

    Parameters
    ----------
    subject : mapping of str to object
        Entries of a subject.

    Raises
    ------
    ContractError
        If there is another entry than those of `SUBJECT_KEYS`.
    """
    if unknown := [key for key in subject if key not in SUBJECT_KEYS]:
        raise ContractError(
            f"subject has {', '.join(unknown)}; it may have {', '.join(SUBJECT_KEYS)}. Rename or remove it."
        )


def merge_subjects(subjects: Sequence[dict[str, str]]) -> dict[str, str]:
    """One subject for a file whose neurons come from several recordings.

    Parameters
    ----------
    subjects : sequence of dict
        The subject of each recording; an empty dict if it has none.

    Returns
    -------
    dict
        Of one animal: the entries on which all recordings agree, with a range for ages that differ
        (``P90D/P95D``). Of several animals: their ids with ``+`` between them, the entries on which all agree, and
        sex ``U`` where they do not.
    """
    named = [subject for subject in subjects if subject]
    if not named:
        return {}
    merged = {}
    for key in SUBJECT_KEYS:
        values = list(dict.fromkeys(subject[key] for subject in named if key in subject))
        if len(values) == 1:
            merged[key] = values[0]
    ids = list(dict.fromkeys(subject["subject_id"] for subject in named if "subject_id" in subject))
    ages = list(dict.fromkeys(subject["age"] for subject in named if "age" in subject))
    if len(ages) > 1 and (age := _age_range(ages)):
        merged["age"] = age
    if len(ids) > 1:
        merged["subject_id"] = "+".join(ids)
        merged["description"] = f"Neurons of {len(ids)} subjects: {', '.join(ids)}."
        merged.setdefault("sex", "U")
    return merged


def missing_for_dandi(subject: Mapping[str, Any]) -> list[str]:
    """The entries that DANDI requires and that a subject does not have.

    Parameters
    ----------
    subject : mapping of str to object
        Entries of a subject.

    Returns
    -------
    list of str
        Of ``subject_id``, ``species``, ``sex`` and ``age`` (a date of birth serves as well).
    """
    return [either[0] for either in _DANDI_NEEDS if not any(subject.get(key) for key in either)]


def make_subject(fields: dict[str, Any]) -> Any:
    """The pynwb Subject with these fields.

    Parameters
    ----------
    fields : dict
        Entries of `SUBJECT_KEYS`; ``date_of_birth`` may be a text in ISO 8601.

    Returns
    -------
    pynwb.file.Subject

    Raises
    ------
    ContractError
        If pynwb refuses a field.
    """
    from pynwb.file import Subject

    birth = fields.get("date_of_birth")
    if isinstance(birth, str):
        fields = {**fields, "date_of_birth": _time(birth)}
    try:
        return Subject(**{key: value for key, value in fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise ContractError(f"subject {fields} is not one that NWB can hold: {one_line(error)}. Change it.") from error


def _age_range(ages: Iterable[str]) -> str:
    """``lower/upper`` of ages in one unit; empty where the units differ or an age is not a plain duration."""
    parts = [_AGE.fullmatch(age) for age in ages]
    matches = [part for part in parts if part]
    if len(matches) < len(parts) or len({part[2] for part in matches}) > 1:
        return ""
    ordered = sorted(matches, key=lambda part: float(part[1]))
    return f"{ordered[0][0]}/{ordered[-1][0]}"


def _texts(file: h5py.File, path: str) -> list[str]:
    """The text or texts at a path, empty where there are none."""
    item = find_dataset(file, path)
    if item is None or item.shape is None or not holds_text(item):
        return []
    value = item[()]
    values = [value] if isinstance(value, bytes | str) else value.ravel().tolist()
    found = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return [text for text in found if text.strip()]


def _time(text: str) -> datetime | None:
    """The time of a text in ISO 8601, in UTC if it has no zone; None for any other text."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

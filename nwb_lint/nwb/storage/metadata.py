"""What a derived file says of its sources: subject, session, people, read from NWB files opened read-only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import h5py

from nwb_lint.errors import ContractError
from nwb_lint.nwb.storage.source import Source, holds_text, reading

SUBJECT_KEYS = (
    "subject_id", "species", "sex", "age", "date_of_birth", "strain", "genotype", "weight", "description",
)  # fmt: skip
# What DANDI asks of a subject: one of each.
NEEDED = (("subject_id",), ("species",), ("sex",), ("age", "date_of_birth"))
_LISTS = ("experimenter", "keywords", "related_publications")
_SINGLE = ("institution", "lab", "session_id", "experiment_description")
_AGE = re.compile(r"P(\d+(?:\.\d+)?)([YMWD])")


class Metadata(NamedTuple):
    """What one source file says of itself; an empty entry is not known."""

    subject: dict[str, str]
    general: dict[str, list[str]]
    start: datetime | None
    description: str


def read_metadata(source: Source) -> Metadata:
    """The metadata of one NWB file, wherever it is (`source.open_nwb`), opened and closed again.

    Raises: NWBError where there is no such file, or it is not an NWB file.
    """
    with reading(source) as file:
        general = {name: _texts(file, f"general/{name}") for name in (*_LISTS, *_SINGLE)}
        found = {name: "".join(_texts(file, f"general/subject/{name}")[:1]) for name in SUBJECT_KEYS}
        subject = {name: text for name, text in found.items() if text}
        start = _time("".join(_texts(file, "session_start_time")[:1]))
        description = "".join(_texts(file, "session_description")[:1])
        return Metadata(subject, general, start, description)


def file_fields(sources: Sequence[Metadata], override: dict[str, Any] | None, summary: str) -> dict[str, Any]:
    """Arguments of the derived file's NWBFile, but the identifier.

    Lists (people, keywords, publications) are joined; single entries are kept where all sources agree; the
    start is the earliest one, or 1970-01-01 UTC where none is known. `merge_subjects` says what becomes of
    the subject.
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
    """Raise ContractError where a subject has entries that NWB does not know."""
    if unknown := [key for key in subject if key not in SUBJECT_KEYS]:
        raise ContractError(f"subject has {', '.join(unknown)}; it may have {', '.join(SUBJECT_KEYS)}.")


def merge_subjects(subjects: Sequence[dict[str, str]]) -> dict[str, str]:
    """One subject for a file whose neurons come from several.

    One animal: what its files say, ages that differ made a range (``P90D/P95D``). Several animals: the ids
    joined by ``+``, species, strain and genotype where all agree, sex ``U`` where they do not.
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


def lacking(subject: Mapping[str, Any]) -> list[str]:
    """The entries that DANDI needs of a subject and that it has not."""
    return [needed[0] for needed in NEEDED if not any(subject.get(key) for key in needed)]


def make_subject(fields: dict[str, Any]) -> Any:
    """The pynwb Subject of such a dict; a date of birth may be ISO text."""
    from pynwb.file import Subject

    birth = fields.get("date_of_birth")
    if isinstance(birth, str):
        fields = {**fields, "date_of_birth": _time(birth)}
    try:
        return Subject(**{key: value for key, value in fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise ContractError(f"subject {fields} is not one that NWB can hold: {error}") from error


def _age_range(ages: Iterable[str]) -> str:
    """``lower/upper`` of ages in one unit; empty where they are in several units or not plain durations."""
    parts = [_AGE.fullmatch(age) for age in ages]
    matches = [part for part in parts if part]
    if len(matches) < len(parts) or len({part[2] for part in matches}) > 1:
        return ""
    ordered = sorted(matches, key=lambda part: float(part[1]))
    return f"{ordered[0][0]}/{ordered[-1][0]}"


def _texts(file: h5py.File, path: str) -> list[str]:
    """The text or texts at a path, empty where there are none."""
    item = file.get(path)
    if not isinstance(item, h5py.Dataset) or not holds_text(item):
        return []
    value = item[()]
    values = [value] if isinstance(value, bytes | str) else value.ravel().tolist()
    found = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return [text for text in found if text.strip()]


def _time(text: str) -> datetime | None:
    """The ISO time, in UTC where it names no zone; None where it is not one."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

"""The units table of a file: where it is, the ids and labels of its units, their columns, and which are chosen.

1. `open_units` finds the table; `units_tables` lists all that a file has.
2. `UnitsTable` has the ids and labels of units, and columns of units, of their electrodes and of electrode groups.
3. `choose_rows` selects units by id, label or query; `columns_of_units` gives their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.events import activity_paths, groups_of
from nwb_lint.nwb.recording.tables import Table
from nwb_lint.nwb.recording.units import name_units, read_bounds
from nwb_lint.nwb.storage.h5 import (
    as_text,
    find_group,
    is_dataset,
    is_group,
    is_reference,
    load,
    member_or_error,
    members,
    pointed_at,
    type_text,
)
from nwb_lint.nwb.storage.prefetch import streamed
from nwb_lint.parallel.warnings import warn
from nwb_lint.query import Ragged, as_texts

Array = np.ndarray
UnitChoice = Sequence[int | float | str] | Array | str | None

UNITS = "units"  # where NWB has the table
ELECTRODES = "general/extracellular_ephys/electrodes"
GROUPS = "general/extracellular_ephys"

# Groups of the root that hold no units table, or that are searched as processed data.
_NO_UNITS = ("general", "intervals", "specifications", "acquisition", "processing", "events", "stimulus", "analysis")
_FIT_TYPE = "LowRankRNN"
# What an electrode group says of itself; in queries also with "group_" before it.
_OF_GROUPS = ("location", "description", "device")
_PEAK = "peak_channel_id"  # ids of electrodes in files of the Allen Institute, in place of rows


def open_units(file: h5py.File, path: Any, units_table: str | None = None) -> UnitsTable:
    """The units table of a file.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    path : object
        Where the file is, for messages.
    units_table : str or None, default=None
        Path of the table, or a name that only one units table has. None takes ``/units``, or else the only units
        table of the file.

    Returns
    -------
    UnitsTable

    Raises
    ------
    NWBError
        If there is no such table (the message lists the units tables of the file), or it has no rows or no spike_times.
    """
    at, group = _find_units(file, path, units_table)
    table = UnitsTable(group, at, f"{at} of {path}")
    problem = ""
    if not len(table):
        problem = f"{table.where}: the table has no rows. At least one unit is needed."
    elif "spike_times" not in table.names and _has_spikes(group):
        problem = (
            f"{table.where} have {len(table)} ids, which is not the number of units in spike_times. Write it again."
        )
    elif "spike_times" not in table.names:
        found = ", ".join(table.names) or "no columns"
        problem = f"{table.where} have no spike_times column, which is needed. They have {found}."
    if problem:
        others = _listed({other: item for other, item in units_tables(file).items() if other != at})
        raise NWBError(f"{problem} " + (f"Pass another units_table=: {others}." if others else "Pass another file."))
    return table


def units_tables(file: h5py.File) -> dict[str, Any]:
    """Every units table of a file: of the type Units, or with spike_times.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.

    Returns
    -------
    dict of str to h5py.Group
        Groups by their paths, ``units`` first.
    """
    roots = [(UNITS, member_or_error(file, UNITS))]
    roots += [(name, member_or_error(file, name)) for name in members(file) if name not in (UNITS, *_NO_UNITS)]
    return {at: item for at, item in [*roots, *groups_of(file)] if is_group(item) and _holds_units(item)}


def fit_paths(file: h5py.File) -> list[str]:
    """The paths of the fits that `nwb_lint.write_fit` put into a file.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.

    Returns
    -------
    list of str
    """
    return [at for at, item in groups_of(file) if as_text(item.attrs.get("neurodata_type", "")) == _FIT_TYPE]


def _holds_units(item: Any) -> bool:
    return as_text(item.attrs.get("neurodata_type", "")) == "Units" or _has_spikes(item)


def _has_spikes(item: Any) -> bool:
    return is_dataset(member_or_error(item, "spike_times"))


def _find_units(file: h5py.File, path: Any, name: str | None) -> tuple[str, Any]:
    """Path and group of the units table of this name, or of the one that is found by itself."""
    if name is not None:
        return _find_named(file, path, name)
    group = find_group(file, UNITS)
    if group is not None:
        return UNITS, group
    found = units_tables(file)
    filled = {at: item for at, item in found.items() if _has_spikes(item)}
    if len(filled) == 1:
        return next(iter(filled.items()))
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise NWBError(
            f"{path} has {len(found)} units tables, and none is at /units: {_listed(found)}. One is needed. Pass one "
            "of them as units_table=."
        )
    if fits := fit_paths(file):
        raise NWBError(
            f"{path} holds a fit ({fits[0]}) and no recording. Units with spike times are needed. Pass a recording, or "
            "read the fit with read_fit, or see it with `nwb-lint show`."
        )
    series = activity_paths(file)
    other = f", or one of its series as series=: {', '.join(series[:12])}" if series else ""
    raise NWBError(f"{path} has no units table. Sorted units with spike times are needed. Pass another file{other}.")


def _find_named(file: h5py.File, path: Any, name: str) -> tuple[str, Any]:
    wanted = name.strip("/")
    try:
        item = file.get(wanted) if wanted else None
    except (ValueError, KeyError):  # h5py refuses some texts as names
        item = None
    if is_group(item):
        return wanted, item
    known = units_tables(file)
    found = [at for at in known if at.endswith(f"/{wanted}")]
    if len(found) == 1:
        return found[0], known[found[0]]
    listed = f"It has {_listed(known)}. Pass one of them as" if known else "It has none. Leave out"
    n = len(found) or "no"
    raise NWBError(f"{path} has {n} units table{'s' * (len(found) > 1)} {name!r}. {listed} units_table=.")


def rows_of_units_tables(tables: dict[str, Any]) -> dict[str, int | NWBError]:
    """The number of units in each of some units tables, or for a table that cannot be read, why."""
    found: dict[str, int | NWBError] = {}
    for at, item in tables.items():
        try:
            found[at] = len(UnitsTable(item, at, at))
        except NWBError as error:
            found[at] = error
    return found


def _listed(tables: dict[str, Any]) -> str:
    rows = rows_of_units_tables(tables)
    return ", ".join(f"{at} ({f'{n} units' if isinstance(n, int) else 'cannot be read'})" for at, n in rows.items())


def plain_ids(values: Array) -> Array:
    """Stored ids as int64; as texts if any is a text, a fraction, or above 63 bits.

    Parameters
    ----------
    values : numpy.ndarray
        Numbers or texts.

    Returns
    -------
    numpy.ndarray
        int64 or ``U`` text.

    Examples
    --------
    >>> plain_ids(np.array([1.0, 2.5])).tolist(), plain_ids(np.array([1.0, 2.0])).tolist()
    (['1', '2.5'], [1, 2])
    """
    if values.dtype.kind in "iuf":
        whole = np.isfinite(values) & (values == np.round(values)) & (values < 2**63) & (values >= -(2**63))
        if whole.all():
            return values.astype(np.int64)
        pairs = zip(values.tolist(), whole.tolist(), strict=True)
        return np.array([str(int(value)) if is_whole else str(value) for value, is_whole in pairs], dtype=str)
    return np.array([as_text(value) for value in values.tolist()], dtype=str)


def unit_labels(ids: Array) -> Array:
    """A unique label for each id: the id as a text, and its row for ids that occur more than once.

    Parameters
    ----------
    ids : numpy.ndarray
        Whole numbers or texts.

    Returns
    -------
    numpy.ndarray
        ``U`` text.

    Examples
    --------
    >>> unit_labels(np.array([0, 1, 0])).tolist()
    ['0 (row 0)', '1', '0 (row 2)']
    """
    labels = ids.astype(str).astype(object)
    for _ in range(3):  # an id may itself read like a label
        _, which, counts = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
        for row in np.flatnonzero(counts[which] > 1):
            labels[row] = f"{labels[row]} (row {row})"
    return labels.astype(str)


class UnitsTable(Table):
    """A units table.

    ``column`` also gives columns of the electrodes of each unit (``location``, ``x``), and of the electrode group:
    ``electrode_group`` is its name, ``group_location``, ``group_description`` and ``group_device`` are its own
    entries. ``location``, ``description`` and ``device`` are those of the group where neither units nor electrodes
    have such a column. Units refer to electrodes by their column ``electrodes``, by another region of electrodes, or
    by ``peak_channel_id``.

    A unit of several electrodes has their value if all agree. Otherwise it has no number (NaN), and as text the
    distinct values in their order, with a comma between: 'V1, PFC'. A query finds one of them by
    ``'PFC' in location``. A unit without electrodes has NaN or ''.

    Parameters
    ----------
    group : h5py.Group
        The table in an open file.
    at : str
        Its path.
    where : str
        Name of table and file, for messages.

    Attributes
    ----------
    at : str
        Path in the file.
    ids : numpy.ndarray
        The id of each unit: int64, or text if any id is a text or a fraction ('a1', '1.5'). Floats that are all whole
        are whole numbers. Without a column ``id`` these are 'row 0', 'row 1', ….
    labels : numpy.ndarray
        A unique text for each unit: its id, with the row if the id occurs more than once ('0 (row 2)').
    has_ids : bool
        Whether there is a column ``id``.
    """

    def __init__(self, group: h5py.Group, at: str, where: str) -> None:
        self.at, self.has_ids = at, True
        super().__init__(group, where)
        self._labels = unit_labels(self.ids)
        self._pairs: dict[str, tuple[Array, Array] | None] = {}

    @property
    def labels(self) -> Array:
        """A unique text for each unit."""
        return self._labels

    def _read_ids(self) -> Array:
        values = self.stored_ids()
        if values is None:
            self.has_ids = False
            return np.array([f"row {row}" for row in range(len(super()._read_ids()))], dtype=str)
        if values.dtype.kind == "b":
            raise NWBError(f"id of {self.where} is bool. Numbers or texts are needed. Get the file again.")
        return plain_ids(values)

    def column(self, name: str) -> Array:
        if name in self.names and is_reference(self.dataset(name)) and not self.is_ragged(name):
            return self.column_or_texts(name)
        if name in self.names or name == "id":
            return super().column(name)
        pairs = self._of_electrodes(name)
        if pairs is None:
            raise self._no_column(name)
        unit, values = pairs
        several = np.bincount(unit, minlength=len(self)) > 1
        if several.any():
            first = ", ".join(as_texts(values[unit == np.flatnonzero(several)[0]])[:4])
            does = "no number" if values.dtype.kind != "U" else "that whole text"
            warn(
                f"{self.where}: {name} differs between the electrodes of {int(several.sum())} of {len(self)} units, "
                f"such as {first} of {name_units(self.labels[several][:1])}. It is {does} there. A query finds units "
                f"with one of the values by: … in {name}."
            )
        if values.dtype.kind == "U":
            return self._joined(unit, values)
        single = ~several[unit]
        whole = np.full(len(self), np.nan) if (~single).any() or len(unit) < len(self) else np.empty_like(values)
        whole[unit[single]] = values[single]
        return whole

    def _column_or_lists(self, name: str) -> Array | Ragged:
        pairs = None if name in self.names or name == "id" else self._of_electrodes(name)
        if pairs is None:
            return super()._column_or_lists(name)
        unit, values = pairs
        return Ragged(values, unit, single=lambda: self.column(name))

    def column_or_texts(self, name: str) -> Array:
        if name in self.names or name == "id":
            return super().column_or_texts(name)
        pairs = self._of_electrodes(name)
        if pairs is None:
            raise self._no_column(name)
        unit, values = pairs
        if values.dtype.kind == "U" or (np.bincount(unit, minlength=1) > 1).any():
            return self._joined(unit, as_texts(values))
        return self.column(name)

    def _joined(self, unit: Array, values: Array) -> Array:
        parts: list[list[str]] = [[] for _ in range(len(self))]
        for row, text in zip(unit.tolist(), values.tolist(), strict=True):
            parts[row].append(text)
        return np.array([", ".join(part) for part in parts], dtype=str)

    def _no_column(self, name: str) -> NWBError:
        table = self._electrodes()
        electrodes = "" if table is None else f"; electrodes have {', '.join(table.names) or 'none'}"
        return NWBError(
            f"{self.where} have no column {name!r}. Units have {', '.join(self.names) or 'none'}{electrodes}. Name one "
            "of these."
        )

    def _of_electrodes(self, name: str) -> tuple[Array, Array] | None:
        """Every distinct pair of a unit and a value of its electrodes, in order; None if they have no such value."""
        if name not in self._pairs:
            table = self._electrodes()
            found = None
            if table is not None:
                values = _electrode_values(table, name)
                if values is not None:
                    unit, at = self._electrode_rows(table)
                    found = _distinct(unit, values[at])
            if found is None and "electrode_group" in self.names:
                groups = _groups_of(self, "electrode_group")
                values = _group_values(self.group.file, groups, name)
                found = None if values is None else (np.arange(len(self)), values)
            self._pairs[name] = found
        return self._pairs[name]

    def _region(self) -> str:
        """The column that refers to electrodes; '' if there is none."""
        if "electrodes" in self.names:
            return "electrodes"
        for name in self.names:
            item = member_or_error(self.group, name)
            kind = item.attrs.get("neurodata_type", "") if is_dataset(item) else ""
            if as_text(kind) == "DynamicTableRegion" and item.dtype.kind in "iu":
                table = pointed_at(self.group.file, item.attrs.get("table"))
                if table is not None and as_text(table.name).startswith(f"/{GROUPS}"):
                    return name
        return _PEAK if _PEAK in self.names else ""

    def _electrodes(self) -> Table | None:
        """The table of electrodes that units refer to; None if they refer to none."""
        region = self._region()
        if not region:
            return None
        group = pointed_at(self.group.file, self.dataset(region).attrs.get("table")) if region != _PEAK else None
        group = group if is_group(group) else find_group(self.group.file, ELECTRODES)
        return Table(group, f"electrodes of {self.where}") if is_group(group) else None

    def electrode_problems(self) -> list[str]:
        """What is wrong with the electrodes: with columns of their table, and with the rows of it that units name."""
        if streamed(self.group) is not None:  # it would cost requests
            return []
        try:
            electrodes = self._electrodes()
            if electrodes is None:
                return []
            self._electrode_rows(electrodes)
            return electrodes.problems()
        except NWBError as error:
            return [str(error)]

    def _electrode_rows(self, electrodes: Table) -> tuple[Array, Array]:
        """Every pair of a unit and one of its electrodes: rows of the two tables."""
        name = self._region()
        if name == _PEAK:
            return self._peak_rows(electrodes)
        region = self.dataset(name)
        if region.dtype.kind not in "iu":
            raise NWBError(
                f"{name} of {self.where} holds {type_text(region)}. Rows of electrodes are needed. Leave columns of "
                "electrodes out."
            )
        # files in an old format have one electrode per unit and no index
        one_each = len(region) == len(self) and not self.is_ragged(name)
        bounds = np.arange(len(self) + 1) if one_each else read_bounds(self, name)
        listed = load(region).astype(np.int64).reshape(len(region), -1)
        unit = np.repeat(np.arange(len(self)), np.diff(bounds) * listed.shape[1])
        at = listed[: bounds[-1]].ravel()
        outside = at[(at < 0) | (at >= len(electrodes))]
        if len(outside):
            raise NWBError(
                f"{self.where} name electrode {outside[0]} of {len(electrodes)} in {name}: damaged. Leave columns of "
                "electrodes out."
            )
        return unit, at

    def _peak_rows(self, electrodes: Table) -> tuple[Array, Array]:
        """The pairs of `_electrode_rows` from ids of electrodes; units without a number have none."""
        ids = self.numbers(_PEAK)
        unit = np.flatnonzero(ids >= 0)
        order = np.argsort(electrodes.ids, kind="stable")
        ordered = electrodes.ids[order]
        at = np.minimum(np.searchsorted(ordered, ids[unit]), len(ordered) - 1)
        wrong = ids[unit][ordered[at] != ids[unit]] if len(ordered) else ids[unit]
        if len(wrong) or len(np.unique(ordered)) < len(ordered):
            why = f"names electrode {wrong[0]:g}" if len(wrong) else "names electrodes by ids that occur twice"
            raise NWBError(
                f"{_PEAK} of {self.where} {why}. The {len(electrodes)} electrodes need these ids. Leave columns of "
                "electrodes out."
            )
        return unit, order[at]


def _electrode_values(electrodes: Table, name: str) -> Array | None:
    """One value for each electrode: its own column, or an entry of its group; None if there is none."""
    if name == "electrode_group" and name not in electrodes.names:
        if "group_name" in electrodes.names:
            return electrodes.column_or_texts("group_name")
        return electrodes.column_or_texts("group") if "group" in electrodes.names else None
    if name in electrodes.names:
        return electrodes.column_or_texts(name)
    if name in electrodes.lost:
        raise NWBError(f"{electrodes.where} has no column {name!r}, which its colnames list. Get the file again.")
    if "group" not in electrodes.names and "group_name" not in electrodes.names:
        return None
    groups = _groups_of(electrodes, "group" if "group" in electrodes.names else "group_name")
    return _group_values(electrodes.group.file, groups, name)


def _groups_of(table: Table, name: str) -> list[Any]:
    """The electrode group of each row, from references or from names; None for a row without one."""
    file = table.group.file
    item = table.dataset(name)
    if is_reference(item):
        return [pointed_at(file, reference) for reference in load(item).ravel()]
    known = {
        text: find_group(file, f"{GROUPS}/{text}") for text in np.unique(table.column_or_texts(name)).tolist() if text
    }
    return [known.get(text) for text in table.column_or_texts(name).tolist()]


def _group_values(file: h5py.File, groups: list[Any], name: str) -> Array | None:
    """An entry of the electrode group of each row, as text; None if groups have no such entry."""
    entry = name.removeprefix("group_")
    if entry not in _OF_GROUPS and name != "electrode_group":
        return None
    texts: dict[str, str] = {}
    found = []
    for group in groups:
        if not is_group(group):
            found.append("")
            continue
        key = as_text(group.name)
        if key not in texts:
            texts[key] = _entry(group, entry) if entry in _OF_GROUPS else key.rsplit("/", 1)[-1]
        found.append(texts[key])
    return np.array(found, dtype=str) if any(found) else None


def _entry(group: Any, entry: str) -> str:
    if entry != "device":
        return as_text(group.attrs.get(entry, ""))
    device = group.get("device")
    link = getattr(group.get("device", getlink=True), "path", "")
    return "" if device is None else as_text(link or device.name).rsplit("/", 1)[-1]


def _distinct(unit: Array, values: Array) -> tuple[Array, Array]:
    """The first of every distinct pair, in the order of the electrodes."""
    codes = np.unique(values, return_inverse=True)[1]
    first = np.sort(np.unique(unit * (int(codes.max(initial=0)) + 1) + codes, return_index=True)[1])
    return unit[first], values[first]


def choose_rows(table: Table, units: UnitChoice) -> tuple[Array, list[Any]]:
    """Rows of the chosen units, in the order of ``units`` or of the table, and the ids that the table does not have.

    An entry of ``units`` is an id (a whole number, a fraction, a text) or a label (`unit_labels`). A single text is a
    query, or a label that is no column. It warns of ids that occur more than once.

    Raises: ContractError if ``units`` is neither None, a query, nor a list of numbers and texts; NWBError if a query
    does not suit the table, if an id stands for several units, or if ids are given and there are none.
    """
    warn_of_ids(table)
    if units is None:
        return np.arange(len(table)), []
    if isinstance(units, str) and (units not in table.labels or units in table.names):
        return np.flatnonzero(table.select(units, "units")), []
    wanted = [units] if isinstance(units, str) else list(units)
    names = [_as_label(unit) for unit in wanted]
    if None in names:
        raise ContractError(f"units is {units!r}; it needs a list of unit ids, or a query over unit columns.")
    if len(set(names)) < len(names):
        raise ContractError(f"units names an id twice: {units!r}. Name each id once.")
    row_of = {label: row for row, label in enumerate(table.labels.tolist())}
    missing = [unit for unit, name in zip(wanted, names, strict=True) if name not in row_of]
    if missing:
        _refuse_ambiguous(table, missing)
    return np.array([row_of[name] for name in names if name in row_of], np.int64), missing


def _as_label(unit: Any) -> str | None:
    """The label that an entry of ``units`` stands for: 3 and 3.0 are '3'; None for what is no id."""
    value = unit.item() if isinstance(unit, np.generic) else unit
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def warn_of_ids(table: Table) -> None:
    """Warn of ids that occur more than once, with the labels that units have then.

    Parameters
    ----------
    table : Table
        Units, or a series of regions of interest.
    """
    ids, which, counts = np.unique(table.ids, return_inverse=True, return_counts=True)
    if (counts > 1).any():
        first = table.labels[which == np.flatnonzero(counts > 1)[0]]
        warn(
            f"{table.where}: {(counts > 1).sum()} of {len(ids)} ids occur more than once, as of merged probes. The "
            f"labels of those units name the row too: {', '.join(map(repr, first[:2].tolist()))}."
        )


def _refuse_ambiguous(table: Table, missing: list[Any]) -> None:
    """Raise if ids are given that no unit has, because there are none or because they stand for several."""
    texts, labels = table.ids.astype(str), table.labels
    if not getattr(table, "has_ids", True):
        raise NWBError(
            f"{table.where} have no ids, and units names {missing[0]!r}. The number of a row is not an id. Pass a "
            f"query, or rows by name: units=[{str(labels[0])!r}, …]."
        )
    for unit in missing:
        found = labels[texts == _as_label(unit)].tolist()
        if found:
            raise NWBError(
                f"{table.where}: id {unit} is that of {len(found)} units. One is needed. Pass labels in place of the "
                f"id, units={found[:4]}, or a query over a column that tells them apart."
            )


def columns_of_units(units: Table, rows: Array, names: Sequence[str]) -> dict[str, Array]:
    """Columns of the units table, of the electrodes of each unit or of their groups, for the chosen rows.

    A unit of several electrodes has their distinct values, in their order, with a comma between. A unit without
    electrodes has '' (NaN in a column of numbers).

    Raises: NWBError if there is no such column; the message lists the columns of units and electrodes.
    """
    return {name: units.column_or_texts(name)[rows] for name in names}

"""Arrays of a session → the Dataset of a recording: variables, coordinates, attributes, units that are dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import free_names, renamed
from nwb_lint.contract.datasets import ACTIVITY, COORDS, FIT, RECORDING, TRIALS
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.averaging import Rates
from nwb_lint.nwb.recording.binning import Bins
from nwb_lint.nwb.recording.tables import TableChoice
from nwb_lint.nwb.recording.time_axis import TimeAxis
from nwb_lint.nwb.recording.trials import Align, Conditions, Trials, Which, align_text
from nwb_lint.nwb.storage.asset import Asset, Place
from nwb_lint.nwb.storage.metadata import Provenance
from nwb_lint.parallel.warnings import warn

Array = np.ndarray

# Names of variables and dims of recordings, activities and fits. The coordinate of a column has another name.
_TABLES = (COORDS, RECORDING, TRIALS, ACTIVITY, FIT)
_DIMS = (dim.rstrip("?") for table in _TABLES for var in table.values() for dim in var.dims)
_OTHERS = (
    "input_column", "input_equals", "input_scale", "input_start_s", "input_stop_s", "input_definition", "course_unit",
    "readout",
)  # fmt: skip
RESERVED = frozenset(_DIMS).union(*_TABLES, _OTHERS)

_DROP_REASONS = ("where", "placeholder", "align", "warp", "within", "by")  # in the order of `choose_trials`
_ASSET_COLUMNS = ("assets", "assets_units", "assets_trials", "assets_warnings")


def column_coords(columns: Mapping[str, Array], dim: str, prefix: str) -> dict[str, xr.Variable]:
    """Columns as coordinates: under their names, or as ``prefix_name`` where a Dataset has a variable of that name."""
    names = free_names(columns, RESERVED, prefix)
    return {names[name]: renamed(xr.Variable(dim, column), name, names[name]) for name, column in columns.items()}


def text_array(values: Sequence[str]) -> Array:
    """Texts as a numpy array of ``U`` text, also if there are none."""
    return np.array(list(values), dtype=str)


def condition_dataset(
    rates: Rates, bins: Bins, conditions: Conditions, coords: dict[str, Any], unit: str = "Hz"
) -> xr.Dataset:
    """A recording from rates of all trials, of two halves if there are any, and of resamples if there are any."""
    dims = ("condition", "time", "neuron")
    rate, n_trials = rates.rate.astype(np.float32, copy=False), rates.n_trials
    data: dict[str, Any] = {
        "rate": (dims, rate[0], {"units": unit}),
        "n_trials": (("condition", "neuron"), n_trials[0], {"units": "1"}),
    }
    if len(n_trials) > 1:
        data["rate_half"] = (("half", *dims), rate[1:3], {"units": unit})
        data["n_trials_half"] = (("half", "condition", "neuron"), n_trials[1:], {"units": "1"})
    if len(rate) > len(n_trials):
        data["rate_draw"] = (("draw", *dims), rate[len(n_trials) :], {"units": unit})
    own = {
        "condition": text_array(conditions.labels),
        "time": ("time", bins.centers, {"units": "s"}),
        **column_coords(conditions.coords, "condition", "trial"),
    }
    return xr.Dataset(data, with_units(own, coords))


def with_units(coords: dict[str, Any], of_units: dict[str, Any]) -> dict[str, Any]:
    """Coordinates of trials or conditions and those of units; a column of units whose name is taken gets another."""
    names = free_names(of_units, coords, "unit")
    return coords | {
        names[name]: renamed(xr.as_variable(value), name, names[name]) if names[name] != name else value
        for name, value in of_units.items()
    }


def neuron_coords(
    sessions: Sequence[str],
    paths: Array,
    ids: Sequence[Array],
    unit_labels: Sequence[Array],
    columns: Sequence[dict[str, Array]],
) -> dict[str, Any]:
    """Coordinates on ``neuron``: labels ``session:label`` (``label`` alone for one file), ids, and unit columns.

    ``unit_id`` holds texts if the ids of any session are texts.

    Raises: NWBError if sessions hold texts and numbers in the same unit column.
    """
    several, whole = len(sessions) > 1, all(part.dtype.kind == "i" for part in ids)
    pairs = list(zip(sessions, unit_labels, strict=True))
    labels = [f"{session}:{unit}" if several else str(unit) for session, part in pairs for unit in part]
    sizes = [len(part) for part in ids]
    coords: dict[str, Any] = {
        "neuron": text_array(labels),
        "unit_id": ("neuron", np.concatenate(ids if whole else [part.astype(str) for part in ids])),
        "session": ("neuron", np.repeat(text_array(sessions), sizes)),
        "source": ("neuron", np.repeat(paths, sizes)),
    }
    kept: dict[str, Array] = {}
    for name in columns[0]:
        parts = [part[name] for part in columns]
        if len({part.dtype.kind == "U" for part in parts}) > 1:
            raise NWBError(
                f"unit column {name} holds texts in one session and numbers in another. One kind is needed. Leave it "
                "out."
            )
        kept[name] = np.concatenate(parts)
    return coords | column_coords(kept, "neuron", "unit")


def file_coords(sources: Sequence[Provenance], digests: Sequence[str], assets: Sequence[Asset]) -> dict[str, Array]:
    """The values of coordinates on ``file``: its path, its identifiers, and its place in an archive."""
    fields = ("identifier", "object_id", "units_object_id", "session_id", "subject_id")
    found = {"file": text_array([source.path for source in sources])}
    for name in fields:
        found[f"file_{name}"] = text_array([getattr(source, name) for source in sources])
    found["file_digest"] = text_array(digests)
    if any(asset.place != Place() for asset in assets):
        places = [asset.place for asset in assets]
        found["file_dandiset"] = text_array([f"{p.instance}/{p.dandiset}".lstrip("/") for p in places])
        found["file_version"] = text_array([place.version for place in places])
        found["file_asset_id"] = text_array([place.asset_id for place in places])
        found["file_asset_path"] = text_array([place.path for place in places])
    return found


def reading_attributes(
    axis: TimeAxis,
    *,
    align: Align,
    align_where: str | None,
    align_which: Which | None,
    where: str | None,
    table: TableChoice,
    within: Sequence[str] | None,
    warp: Sequence[str] | None,
    series: str | None,
    smooth_s: float | None = None,
    columns: Mapping[str, str] | None = None,
    external: bool = False,
) -> dict[str, Any]:
    """The attributes that both readers give: the options that were used."""
    bins = axis.bins
    attrs: dict[str, Any] = {
        "bin_s": bins.bin_s,
        "smooth_s": float(smooth_s or 0.0),
        "align": align_text(align),
        **({} if align_where is None else {"align_where": align_where}),
        **({} if align_which is None else {"align_which": align_which}),
        "window_s": [bins.start, bins.start + bins.n * bins.bin_s],
        "where": where or "",
        "table": table if isinstance(table, str) else list(table),
    }
    if columns:
        attrs["columns"] = [f"{name} = {expression}" for name, expression in columns.items()]
    if within is not None:
        attrs["within"] = list(within)
    if warp is not None and axis.warp_s is not None:
        attrs |= {"warp": list(warp), "warp_s": axis.warp_s}
    if axis.infer_obs:
        attrs["infer_obs"] = 1
    if external:
        attrs["external"] = 1
    if series is not None:
        attrs["series"] = series
    return attrs


def units_table_attribute(tables: Sequence[str]) -> dict[str, Any]:
    """The attribute that says which units table was read in each file that neurons come from; none for a series."""
    if not all(tables):
        return {}
    return {"units_table": tables[0] if len(set(tables)) == 1 else list(tables)}


def trial_counts(sessions: Sequence[Trials]) -> dict[str, Any]:
    """Attributes of both readers: how many trials were used, and how many were dropped for each reason."""
    placeholders = [f"{trials.where}: {text}" for trials in sessions for text in trials.placeholders]
    return ({"placeholders": placeholders} if placeholders else {}) | {
        "n_trials_used": sum(len(trials.origins) for trials in sessions),
        **{
            f"n_trials_dropped_{reason}": sum(getattr(trials, f"dropped_{reason}") for trials in sessions)
            for reason in _DROP_REASONS
        },
    }


def drop_units(recording: xr.Dataset, min_trials: int) -> xr.Dataset:
    """The recording without units that have fewer than ``min_trials`` in some condition, and without emptied files.

    It warns of how many units were dropped, which and why, and of bins that no trial observed, which stay NaN.
    Raises: NWBError if no unit is left; the message names the emptiest conditions.
    """
    short: Array = recording["n_trials"].values < min_trials
    out: Array = np.any(short, axis=0)
    labels = recording["neuron"].values
    if out.all():
        raise _no_unit_left(recording, short, min_trials)
    if out.any():
        _warn_of_dropped(recording, short, min_trials)
    kept = recording.isel(neuron=np.flatnonzero(~out) if out.any() else slice(None))  # a slice makes no copy
    kept = kept.isel(file=np.flatnonzero(np.isin(kept["file"].values, kept["source"].values)))
    kept.attrs |= {"n_units_dropped": int(out.sum()), "dropped_units": [str(label) for label in labels[out]]}
    if np.isnan(kept["rate"].values.sum()):  # one pass; most recordings have no NaN
        unseen = np.isnan(kept["rate"].values)
        warn(
            f"{unseen.mean():.2%} of the rates are NaN: no trial observed those bins of "
            f"{int(unseen.any(axis=(0, 1)).sum())} units. A narrower window_s may avoid it."
        )
    return kept


def _no_unit_left(recording: xr.Dataset, short: Array, min_trials: int) -> NWBError:
    n = short.shape[1]
    conditions, trials = recording["condition"].values, recording["n_trials"].values.sum(axis=1)
    worst = np.lexsort((trials, -short.sum(axis=1)))[:3]
    emptiest = "; ".join(f"{conditions[c]} ({short[c].sum()} of {n} units)" for c in worst if short[c].any())
    return NWBError(
        f"all {n} units have fewer than {_trials_text(min_trials)} in some condition: {emptiest}. Use fewer columns in "
        'by, a lower min_trials, or missing="keep".'
    )


def _warn_of_dropped(recording: xr.Dataset, short: Array, min_trials: int) -> None:
    labels: Array = recording["neuron"].values
    out: Array = np.asarray(short.any(axis=0))
    first = int(np.flatnonzero(out)[0])
    conditions = recording["condition"].values[short[:, first]]
    more = f" and {len(conditions) - 1} more" if len(conditions) > 1 else ""
    example = f"{labels[first]} has fewer than {_trials_text(min_trials)} in {conditions[0]}{more}"
    others = f"; also {', '.join(labels[out][1:9])}" if out.sum() > 1 else ""
    warn(f"dropped {out.sum()} of {len(out)} units that lack trials of a condition ({example}{others}).")


def _trials_text(n: int) -> str:
    return f"{n} trial{'s' * (n > 1)}"


def asset_attributes(
    paths: Sequence[str], chosen: dict[str, tuple[int, int]], reasons: dict[str, str], recording: xr.Dataset
) -> dict[str, list]:
    """Attributes: how many units and trials each file gave to a recording, and why not all.

    ``chosen`` holds the numbers of units and trials that were chosen in each file that was read, ``reasons`` the reason
    of each file that was not.
    """
    sources, counts = np.unique(recording["source"].values, return_counts=True)
    units = dict(zip(sources.tolist(), counts.tolist(), strict=True))
    warnings = []
    for path in paths:
        n_chosen, n_kept = chosen.get(path, (0, 0))[0], units.get(path, 0)
        dropped = f"{n_chosen - n_kept} of {n_chosen} units lack trials of a condition" if n_kept < n_chosen else ""
        warnings.append(reasons.get(path, dropped))
    columns = (
        list(paths),
        [units.get(path, 0) for path in paths],
        [chosen[path][1] if path in units else 0 for path in paths],
        warnings,
    )
    return dict(zip(_ASSET_COLUMNS, columns, strict=True))


# What dropped trials, in words, by the end of the attribute n_trials_dropped_…
_WORDS = {
    "where": "by where", "placeholder": "with a number that stands for no time", "align": "without a time of align",
    "warp": "without an interval of warp", "within": "without limits of within", "by": "without a value of by",
}  # fmt: skip
_MOST_CONDITIONS = 12


def format_reading(recording: xr.Dataset) -> str:
    """How many trials and units were used of all, what dropped the others, and the trials of the conditions.

    Parameters
    ----------
    recording : xarray.Dataset
        From `read_conditions`, or an activity that was made from it; or single trials.

    Returns
    -------
    str
        Three lines, two for single trials.

    Examples
    --------
    >>> print(format_reading(xr.Dataset(
    ...     {"n_trials": (("condition", "neuron"), [[30], [15]])}, {"condition": ["side=left", "side=right"]},
    ...     {"n_trials_used": 45, "n_trials_dropped_where": 15, "n_units_dropped": 2, "n_units_not_chosen": 0})))
    trials: 45 of 60 used (15 dropped by where)
    conditions: 2, of 15 to 30 trials: side=left (30), side=right (15)
    units: 1 of 3 used (2 dropped without enough trials of every condition)
    """
    start, attrs = "n_trials_dropped_", recording.attrs
    dropped = {
        _WORDS.get(name.removeprefix(start), name): int(n) for name, n in attrs.items() if name.startswith(start)
    }
    lines = [f"trials: {_of_all(int(attrs.get('n_trials_used', 0)), dropped)}"]
    if "n_trials" in recording:
        per_condition = recording["n_trials"].values.max(axis=1).tolist()
        listed = zip(recording["condition"].values[:_MOST_CONDITIONS], per_condition, strict=False)
        texts = ", ".join(f"{label} ({n})" for label, n in listed) + ", …" * (len(per_condition) > _MOST_CONDITIONS)
        lines.append(
            f"conditions: {len(per_condition)}, of {min(per_condition)} to {max(per_condition)} trials: {texts}"
        )
    of_units = {
        "not chosen by units": int(attrs.get("n_units_not_chosen", 0)),
        "without enough trials of every condition": int(attrs.get("n_units_dropped", 0)),
    }
    return "\n".join([*lines, f"units: {_of_all(recording.sizes['neuron'], of_units)}"])


def _of_all(used: int, dropped: dict[str, int]) -> str:
    reasons = ", ".join(f"{n} dropped {reason}" for reason, n in dropped.items() if n)
    return f"{used} of {used + sum(dropped.values())} used" + (f" ({reasons})" if reasons else "")


def format_assets(recording: xr.Dataset, *, all_files: bool = True) -> str:
    """What each file gave to a recording, activity or fit, as a table of text.

    Parameters
    ----------
    recording : xarray.Dataset
        From `read_conditions`, or a Dataset that was made from it.
    all_files : bool, default=True
        False leaves out the files that gave all that they hold.

    Returns
    -------
    str

    Raises
    ------
    ContractError
        If the Dataset has no such attributes.

    Examples
    --------
    >>> print(format_assets(xr.Dataset(attrs={"assets": ["a.nwb", "b.nwb"], "assets_units": [3, 0],
    ...     "assets_trials": [40, 0], "assets_warnings": ["", "left out: b.nwb: no such file"]})))
    2 files: 1 gave 3 units
    units  trials  file
        3      40  a.nwb
        0       0  b.nwb  left out: b.nwb: no such file
    """
    columns = [recording.attrs.get(name) for name in _ASSET_COLUMNS]
    if any(column is None for column in columns):
        raise ContractError(
            "the Dataset has no attribute assets. It is needed. Pass a Dataset of read_conditions, or one made from it."
        )
    rows = list(zip(*columns, strict=True))
    lines = [f"{len(rows)} files: {sum(row[1] > 0 for row in rows)} gave {sum(row[1] for row in rows)} units"]
    shown = [row for row in rows if all_files or row[3]]
    if shown:
        lines.append("units  trials  file")
    lines += [f"{units:5d}  {trials:6d}  {path}  {warning}".rstrip() for path, units, trials, warning in shown]
    return "\n".join(lines)

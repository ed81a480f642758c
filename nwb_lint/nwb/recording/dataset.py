"""Arrays that were read → the Dataset of a recording: coordinates, attributes, units that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import ACTIVITY, COORDS, FIT, RECORDING, TRIALS
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.binning import Bins
from nwb_lint.nwb.recording.tables import TableChoice
from nwb_lint.nwb.recording.trials import Align, Conditions, Trials, align_text
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.dandi import Address, parse_address
from nwb_lint.nwb.storage.metadata import Provenance
from nwb_lint.parallel.warnings import warn

Array = np.ndarray

# Names that a column of a table may not have in a Dataset, nor in those that are made of it: of variables and of dims.
_WHY = ("align", "warp", "within", "by")  # in the order of `choose_trials`
_TABLES = (COORDS, RECORDING, TRIALS, ACTIVITY, FIT)
_DIMS = (dim.rstrip("?") for table in _TABLES for var in table.values() for dim in var.dims)
RESERVED = frozenset(_DIMS).union(*_TABLES)


def free_name(name: str, prefix: str, taken: frozenset[str] = RESERVED) -> str:
    """The name of a column's coordinate: its own, or ``prefix_name`` where that one is taken."""
    return f"{prefix}_{name}" if name in taken else name


def text_array(values: Sequence[str]) -> Array:
    return np.array(list(values), dtype=str)


def attributes(
    bins: Bins,
    smooth_s: float | None,
    align: Align,
    where: str | None,
    table: TableChoice,
    within: Sequence[str] | None,
    warp: Sequence[str] | None,
    warp_s: float | None,
    infer_obs: bool,
) -> dict[str, Any]:
    """The attributes that both readers give; those of options that were not asked for are left out."""
    attrs: dict[str, Any] = {
        "bin_s": bins.bin_s,
        "smooth_s": float(smooth_s or 0.0),
        "align": align_text(align),
        "window_s": [bins.start, bins.start + bins.n * bins.bin_s],
        "where": where or "",
        "table": table if isinstance(table, str) else list(table),
    }
    if within is not None:
        attrs["within"] = list(within)
    if warp is not None and warp_s is not None:
        attrs |= {"warp": list(warp), "warp_s": warp_s}
    if infer_obs:
        attrs["infer_obs"] = 1
    return attrs


def totals(trials: Sequence[Trials]) -> dict[str, int]:
    """How many trials were used, and dropped for want of what; for both readers."""
    return {
        "n_trials_used": sum(len(part.origins) for part in trials),
        **{f"n_trials_dropped_{why}": sum(getattr(part, f"dropped_{why}") for part in trials) for why in _WHY},
    }


def file_coords(said: Sequence[Provenance], digests: Sequence[str], assets: Sequence[Asset]) -> dict[str, Array]:
    """The coordinates along ``file``: where each is, what it says of itself, and what its archive says of it."""
    fields = ("identifier", "object_id", "units_object_id", "session_id", "subject_id")
    found = {"file": text_array([item.path for item in said])}
    for name in fields:
        found[f"file_{name}"] = text_array([getattr(item, name) for item in said])
    found["file_digest"] = text_array(digests)
    if any(asset.asset_id for asset in assets):
        places = [parse_address(asset.address) if asset.asset_id else Address("", "", "", "") for asset in assets]
        found["file_dandiset"] = text_array([f"{p.instance}/{p.dandiset}".lstrip("/") for p in places])
        found["file_version"] = text_array([place.version for place in places])
        found["file_asset_id"] = text_array([asset.asset_id for asset in assets])
        found["file_asset_path"] = text_array([place.path for place in places])
    return found


def asset_attributes(
    paths: Sequence[str], gave: dict[str, tuple[int, int]], why: dict[str, str], recording: xr.Dataset
) -> dict[str, list]:
    """What every file gave to a recording, units and trials, and why where it is not all: attributes.

    ``gave`` holds the units and trials chosen in each file that was read, ``why`` the reason of each that was not.
    """
    sources, counts = np.unique(recording["source"].values, return_counts=True)
    units = dict(zip(sources.tolist(), counts.tolist(), strict=True))
    told = []
    for path in paths:
        chosen, kept = gave.get(path, (0, 0))[0], units.get(path, 0)
        lost = f"{chosen - kept} of {chosen} units miss a condition" if kept < chosen else ""
        told.append(why.get(path, lost))
    return {
        "assets": list(paths),
        "assets_units": [units.get(path, 0) for path in paths],
        "assets_trials": [gave[path][1] if path in units else 0 for path in paths],
        "assets_warnings": told,
    }


def format_assets(recording: xr.Dataset, *, all_files: bool = True) -> str:
    """What each file gave to a recording, activity or fit, as a table; without ``all_files`` those that gave less.

    Raises: ContractError where the Dataset does not say.

    Example:
        >>> print(format_assets(xr.Dataset(attrs={"assets": ["a.nwb", "b.nwb"], "assets_units": [3, 0],
        ...     "assets_trials": [40, 0], "assets_warnings": ["", "left out: b.nwb: no such file"]})))
        2 files: 1 gave 3 units
        units  trials  file
            3      40  a.nwb
            0       0  b.nwb  left out: b.nwb: no such file
    """
    columns = [recording.attrs.get(name) for name in ("assets", "assets_units", "assets_trials", "assets_warnings")]
    if any(column is None for column in columns):
        raise ContractError("the Dataset has no attribute assets; pass what read_conditions gave, or made from it.")
    rows = list(zip(*columns, strict=True))
    lines = [f"{len(rows)} files: {sum(row[1] > 0 for row in rows)} gave {sum(row[1] for row in rows)} units"]
    shown = [row for row in rows if all_files or row[3]]
    if shown:
        lines.append("units  trials  file")
    lines += [f"{units:5d}  {trials:6d}  {path}  {told}".rstrip() for path, units, trials, told in shown]
    return "\n".join(lines)


def neuron_coords(
    sessions: Sequence[str], paths: Array, ids: Sequence[Array], columns: Sequence[dict[str, Array]]
) -> dict[str, Any]:
    """Coordinates along ``neuron``: labels ``session:id`` (``id`` alone for one file), and unit columns.

    Raises: NWBError where sessions hold texts and numbers in the same unit column.
    """
    several = len(sessions) > 1
    pairs = list(zip(sessions, ids, strict=True))
    labels = [f"{session}:{unit}" if several else str(unit) for session, part in pairs for unit in part]
    sizes = [len(part) for part in ids]
    coords: dict[str, Any] = {
        "neuron": text_array(labels),
        "unit_id": ("neuron", np.concatenate(ids).astype(np.int64)),
        "session": ("neuron", np.repeat(text_array(sessions), sizes)),
        "source": ("neuron", np.repeat(paths, sizes)),
    }
    for name in columns[0]:
        parts = [part[name] for part in columns]
        if len({part.dtype.kind == "U" for part in parts}) > 1:
            raise NWBError(f"unit column {name} holds texts in one session and numbers in another; leave it out.")
        coords[free_name(name, "unit")] = ("neuron", np.concatenate(parts))
    return coords


def condition_dataset(
    rate: Array,
    n_trials: Array,
    bins: Bins,
    conditions: Conditions,
    neurons: dict[str, Any],
    files: dict[str, Array],
    unit: str = "Hz",
) -> xr.Dataset:
    """A recording from rate (1 or 3, condition, time, neuron) and n_trials (1 or 3, condition, neuron)."""
    dims = ("condition", "time", "neuron")
    values = rate.astype(np.float32, copy=False)
    data: dict[str, Any] = {
        "rate": (dims, values[0], {"units": unit}),
        "n_trials": (("condition", "neuron"), n_trials[0], {"units": "1"}),
    }
    if len(rate) > 1:
        data["rate_half"] = (("half", *dims), values[1:], {"units": unit})
        data["n_trials_half"] = (("half", "condition", "neuron"), n_trials[1:], {"units": "1"})
    coords = {
        "condition": text_array(conditions.labels),
        "time": ("time", bins.centers, {"units": "s"}),
        **{free_name(name, "trial"): ("condition", v) for name, v in conditions.coords.items()},
        **neurons,
        **{name: ("file", values) for name, values in files.items()},
    }
    return xr.Dataset(data, coords)


def drop_units(recording: xr.Dataset, min_trials: int) -> xr.Dataset:
    """Without the units that have fewer than ``min_trials`` in some condition, and the files left with none.

    Warns of how many, which, and why; and where bins that no trial observed stay NaN. Raises: NWBError where
    no unit is left, naming the emptiest conditions.
    """
    short: Array = recording["n_trials"].values < min_trials
    out: Array = np.any(short, axis=0)
    n, needed = len(out), f"{min_trials} trial{'s' * (min_trials > 1)}"
    labels, conditions = recording["neuron"].values, recording["condition"].values
    if out.all():
        trials = recording["n_trials"].values.sum(axis=1)
        worst = np.lexsort((trials, -short.sum(axis=1)))[:3]
        listed = "; ".join(f"{conditions[c]} ({short[c].sum()} of {n} units)" for c in worst if short[c].any())
        raise NWBError(
            f"all {n} units have fewer than {needed} in some condition: {listed}. Use fewer columns in by, a "
            'lower min_trials, or missing="keep".'
        )
    if out.any():
        first = int(np.flatnonzero(out)[0])
        lacking = conditions[short[:, first]]
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        told = f"{labels[first]} has fewer than {needed} in {lacking[0]}{more}"
        others = f"; also {', '.join(labels[out][1:9])}" if out.sum() > 1 else ""
        warn(f"dropped {out.sum()} of {n} units that miss a condition ({told}{others}).")
    kept = recording.isel(neuron=np.flatnonzero(~out) if out.any() else slice(None))  # a slice copies nothing
    kept = kept.isel(file=np.flatnonzero(np.isin(kept["file"].values, kept["source"].values)))
    kept.attrs |= {"n_units_dropped": int(out.sum()), "dropped_units": [str(label) for label in labels[out]]}
    if np.isnan(kept["rate"].values.sum()):  # in one pass; most recordings have none
        unseen = np.isnan(kept["rate"].values)
        warn(
            f"{unseen.mean():.2%} of the rates are NaN: no trial observed those bins of "
            f"{int(unseen.any(axis=(0, 1)).sum())} units. A narrower window_s may avoid it.",
        )
    return kept

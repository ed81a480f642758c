"""Trial columns of the conditions → the network's input (condition, time, input)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.parallel.warnings import warn

Array = np.ndarray


@dataclass(frozen=True)
class Input:
    """One input, or one for every level of a column.

    u(condition, t) = scale · amplitude(condition) inside ``window_s``, 0 outside, with the amplitude

    ============================  =============================================================
    ``column`` alone, numeric     the column's value
    ``column`` and ``equals``     1 where the column equals the value, else 0
    ``column`` alone, text/bool   one input per level, each 1 at its level (``name=level``)
    no column                     1 in every condition
    ============================  =============================================================

    ``window_s`` = (start, stop) in s on the recording's time axis, None = always; start is in, stop out.

    Example:
        >>> Input("motion", column="motion", scale=1 / 3, window_s=(0.0, 0.75)).name
        'motion'
    """

    name: str
    column: str | None = None
    equals: str | float | bool | None = None
    scale: float = 1.0
    window_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot mean anything."""
        if self.equals is not None and self.column is None:
            raise ContractError(f"input {self.name!r} has equals={self.equals!r} and no column; name the column too.")
        if self.window_s is not None and not self.window_s[0] < self.window_s[1]:
            raise ContractError(f"input {self.name!r} has window_s={self.window_s}; it needs start < stop, in s.")
        if not np.isfinite(self.scale) or self.scale == 0:
            raise ContractError(f"input {self.name!r} has scale={self.scale}; it needs a number other than 0.")

    def amplitudes(self, recording: xr.Dataset) -> list[tuple[str, str, Array]]:
        """(name, level it is on at or "", amplitude per condition) of every input that this one stands for."""
        if self.column is None:
            return [(self.name, "", np.ones(recording.sizes["condition"]))]
        columns = [str(c) for c, v in recording.coords.items() if v.dims == ("condition",) and c != "condition"]
        if self.column not in columns:
            raise ContractError(
                f"input {self.name!r} needs the column {self.column!r}; the conditions have {', '.join(columns)}. "
                "Put it among `by` of read_conditions."
            )
        values = recording[self.column].values
        if self.equals is not None:
            hits = np.array([_same(v, self.equals) for v in values])
            if not hits.any():
                raise ContractError(
                    f"input {self.name!r} is on where {self.column} equals {self.equals!r}, which no condition does; "
                    f"its levels are {', '.join(sorted({str(v) for v in values}))}."
                )
            return [(self.name, str(self.equals), hits.astype(float))]
        if values.dtype.kind in "iuf":
            if not np.isfinite(values).all():
                raise ContractError(
                    f"input {self.name!r} needs numbers, and {self.column} has {int((~np.isfinite(values)).sum())} "
                    "conditions where it has none; leave them out with `where`, or use equals."
                )
            return [(self.name, "", values.astype(float))]
        levels = sorted({str(v) for v in values})
        return [(f"{self.name}={level}", level, (values.astype(str) == level).astype(float)) for level in levels]


def _same(value: object, wanted: object) -> bool:
    try:
        return float(value) == float(wanted)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value) == str(wanted)


def build_inputs(recording: xr.Dataset, inputs: Sequence[Input], burn_in_s: float) -> xr.Dataset:
    """``u (condition, time, input)``, ``u_burn_in (condition, burn_in, input)`` and what defines each.

    Raises ContractError for unknown columns or levels; warns of inputs that are collinear, naming them.
    """
    step = float(recording.attrs["bin_s"])
    if not np.isfinite(burn_in_s):
        raise ContractError(f"burn_in_s is {burn_in_s}; it needs a multiple of the bin, {step:g} s, from 0 on.")
    n_before = round(burn_in_s / step)
    if burn_in_s < 0 or abs(n_before * step - burn_in_s) > 1e-6:
        raise ContractError(f"burn_in_s is {burn_in_s}; it needs a multiple of the bin, {step:g} s, from 0 on.")
    time = recording["time"].values
    axis = np.concatenate([time[0] - step * np.arange(n_before, 0, -1), time])
    rows: list[tuple[Input, str, str]] = []
    courses = []
    for one in inputs:
        start, stop = one.window_s or (-np.inf, np.inf)
        on = (axis >= start - 1e-9) & (axis < stop - 1e-9)
        if not on.any():
            raise ContractError(
                f"input {one.name!r} is on from {start:g} to {stop:g} s, and the time axis runs from {axis[0]:g} to "
                f"{axis[-1]:g} s; give a window that meets it."
            )
        for name, level, amplitude in one.amplitudes(recording):
            rows.append((one, name, level))
            courses.append(one.scale * amplitude[:, None] * on)
    if not rows:
        raise ContractError(
            "no inputs were given; a network needs at least one Input, e.g. Input('stimulus', column=…)."
        )
    names = [name for _, name, _ in rows]
    if len(set(names)) < len(names):
        raise ContractError(f"two inputs have the same name: {', '.join(names)}. Give each its own.")
    u = np.stack(courses, axis=2).astype(np.float32)
    _warn_collinear(u, names)
    windows = [one.window_s or (np.nan, np.nan) for one, _, _ in rows]
    out = xr.Dataset(
        {"u": (("condition", "time", "input"), u[:, n_before:])},
        coords={
            "input": ("input", np.array(names)),
            "input_column": ("input", np.array([one.column or "" for one, _, _ in rows])),
            "input_equals": ("input", np.array([level for _, _, level in rows])),
            "input_scale": ("input", np.array([float(one.scale) for one, _, _ in rows])),
            "input_start_s": ("input", np.array([w[0] for w in windows], float)),
            "input_stop_s": ("input", np.array([w[1] for w in windows], float)),
        },
    )
    if n_before:
        out["u_burn_in"] = ("condition", "burn_in", "input"), u[:, :n_before]
        out = out.assign_coords(burn_in=("burn_in", axis[:n_before], {"units": "s"}))
    return out


def _warn_collinear(u: Array, names: list[str]) -> None:
    """Warn when some inputs are linear combinations of others: their weights are then not determined."""
    flat = u.reshape(-1, u.shape[2]).astype(float)
    norm = np.linalg.norm(flat, axis=0)
    silent = [name for name, size in zip(names, norm, strict=True) if size == 0]
    if silent:
        raise ContractError(f"input {', '.join(silent)} is 0 in every condition; drop it or mend its column or scale.")
    _, s, vt = np.linalg.svd(flat / norm, full_matrices=False)
    loose = vt[s < 1e-6 * s[0]] if len(s) == len(names) else vt
    involved = [name for name, weight in zip(names, np.abs(loose).max(axis=0, initial=0), strict=True) if weight > 1e-6]
    if involved:
        warn(
            f"inputs {', '.join(involved)} are collinear: only a combination of their weights is determined. "
            "Drop one of them, or give them different windows.",
        )

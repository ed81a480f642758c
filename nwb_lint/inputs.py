"""Columns of the conditions → the inputs u (condition, time, input) of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr

from nwb_lint.contract import column_of, columns_of, equal_up_to_rounding, find_column, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.parallel.warnings import warn

Array = np.ndarray
Window = tuple[float, float]


@dataclass(frozen=True)
class Input:
    """One input of the network, or one input for every level of a column and every window.

    u(condition, t) = scale × amplitude(condition) inside ``window_s``, and 0 outside. The amplitude depends on the
    column:

    ============================  =============================================================
    ``column`` alone, numbers     the column's value
    ``column`` and ``equals``     1 where the column equals the value, else 0
    ``column`` alone, text, bool  one input for each level, 1 at its level (``name=level``)
    no column                     1 in every condition
    ============================  =============================================================

    Parameters
    ----------
    name : str
        Name of the input.
    column : str or None, default=None
        A column of the conditions.
    equals : str, float, bool or None, default=None
        The value of the column at which the input is on.
    scale : float, default=1.0
        Factor of the amplitude, not 0; an input is dimensionless.
    window_s : (float, float), sequence of (float, float) or None, default=None
        Start and stop on the time axis of the recording, s; the start is included, the stop is not. None means always,
        also before time 0. Several windows give one input each (``name START to STOP s``), so that each has its own
        weights: for signals whose effect on the neurons changes in the course of a trial.

    Raises
    ------
    ContractError
        If ``equals`` is given without ``column``, a window does not start before it stops, or ``scale`` is 0.

    Examples
    --------
    >>> Input("motion", column="motion", scale=1 / 3, window_s=(0.0, 0.75)).name
    'motion'
    >>> Input("motion", column="motion", window_s=[(0.0, 0.3), (0.3, 0.75)]).windows
    [(0.0, 0.3), (0.3, 0.75)]
    """

    name: str
    column: str | None = None
    equals: str | float | bool | None = None
    scale: float = 1.0
    window_s: Window | Sequence[Window] | None = None

    def __post_init__(self) -> None:
        if self.equals is not None and self.column is None:
            raise ContractError(f"input {self.name!r} has equals={self.equals!r} and no column. Name the column too.")
        if self.window_s is not None and not all(len(one) == 2 and one[0] < one[1] for one in self.windows):
            raise ContractError(f"input {self.name!r} has window_s={self.window_s}; it needs start < stop, in s.")
        if len(set(self.windows)) < len(self.windows):
            raise ContractError(f"input {self.name!r} has a window twice: {self.window_s}. Give each window once.")
        if not np.isfinite(self.scale) or self.scale == 0:
            raise ContractError(f"input {self.name!r} has scale={self.scale}; it needs a number other than 0.")

    @property
    def windows(self) -> list[Window]:
        """The windows, s; without a window the whole time."""
        if self.window_s is None:
            return [(-np.inf, np.inf)]
        if not len(self.window_s):
            raise ContractError(f"input {self.name!r} has no window in window_s. Give one, or None for always.")
        several = isinstance(self.window_s[0], Sequence | np.ndarray)
        return [tuple(one) for one in (self.window_s if several else [self.window_s])]  # type: ignore[arg-type, misc]

    def amplitudes(self, recording: xr.Dataset) -> list[tuple[str, str, Array]]:
        """Name, level (or "") and amplitude in each condition of every input that this one stands for."""
        if self.column is None:
            return [(self.name, "", np.ones(recording.sizes["condition"]))]
        if find_column(recording, self.column, "condition") is None:
            there = ", ".join(columns_of(recording, "condition")) or "none"
            raise ContractError(
                f"input {self.name!r} needs the column {self.column!r}; the conditions have {there}. "
                "Name it in `by` of read_conditions."
            )
        values = column_of(recording, self.column)
        levels = sorted({str(value) for value in values})
        if self.equals is not None:
            on = np.array([_same(value, self.equals) for value in values])
            if not on.any():
                raise ContractError(
                    f"input {self.name!r} is on where {self.column} equals {self.equals!r}. No condition has this "
                    f"value. The levels are {', '.join(levels)}."
                )
            return [(self.name, str(self.equals), on.astype(float))]
        numbers = values.dtype.kind in "iuf"
        without = int((~np.isfinite(values) if numbers else missing_in(values)).sum())
        if without:
            raise ContractError(
                f"input {self.name!r} needs a value of {self.column} in every condition; {without} have none. Leave "
                "them out with `where`, or use equals."
            )
        if numbers:
            return [(self.name, "", values.astype(float))]
        return [(f"{self.name}={level}", level, (values.astype(str) == level).astype(float)) for level in levels]


def build_inputs(recording: xr.Dataset, inputs: Sequence[Input], burn_in_s: float) -> xr.Dataset:
    """The inputs of all conditions on the time axis of a recording.

    It warns of inputs that are collinear, and of inputs without a window that are on before time 0.

    Parameters
    ----------
    recording : xarray.Dataset
        Coordinates ``time``, s, and columns on ``condition``; attribute ``bin_s``.
    inputs : sequence of Input
        At least one.
    burn_in_s : float
        Time before the first bin in which the network runs on its inputs, s; a multiple of the bin.

    Returns
    -------
    xarray.Dataset
        ``u (condition, time, input)``, dimensionless; ``u_burn_in (condition, burn_in, input)`` if ``burn_in_s`` is
        above 0; the coordinates ``input`` (names), ``input_column``, ``input_equals``, ``input_scale``,
        ``input_start_s`` and ``input_stop_s`` define each input.

    Raises
    ------
    ContractError
        If a column or level is not known, a name occurs twice, a window is outside the time axis, or an input is 0 in
        every condition.
    """
    if isinstance(inputs, str | Input) or not all(isinstance(one, Input) for one in inputs):
        raise ContractError(f"inputs is {inputs!r}. It needs a list of Input. Pass [Input('stimulus', column=…)].")
    n_before, axis = _axis_with_burn_in(recording, burn_in_s)
    _warn_of_early(inputs, axis)
    rows: list[tuple[Input, str, str, Window]] = []
    courses = []
    for one in inputs:
        for (name, level, amplitude), window in product(one.amplitudes(recording), one.windows):
            label = f"{name} {window[0]:g} to {window[1]:g} s" if len(one.windows) > 1 else name
            rows.append((one, label, level, window))
            courses.append(one.scale * amplitude[:, None] * _is_on(one.name, window, axis))
    if not rows:
        raise ContractError(
            "no inputs were given. A network needs at least one Input, such as Input('stimulus', column=…)."
        )
    names = [name for _, name, _, _ in rows]
    if len(set(names)) < len(names):
        raise ContractError(f"two inputs have the same name: {', '.join(names)}. Give each input its own name.")
    u = np.stack(courses, axis=2).astype(np.float32)
    _check_independent(u, names)
    windows = np.array([window for _, _, _, window in rows], float)
    windows[~np.isfinite(windows)] = np.nan
    out = xr.Dataset(
        {"u": (("condition", "time", "input"), u[:, n_before:])},
        coords={
            "input": ("input", np.array(names)),
            "input_column": ("input", np.array([one.column or "" for one, _, _, _ in rows])),
            "input_equals": ("input", np.array([level for _, _, level, _ in rows])),
            "input_scale": ("input", np.array([float(one.scale) for one, _, _, _ in rows])),
            "input_start_s": ("input", windows[:, 0]),
            "input_stop_s": ("input", windows[:, 1]),
        },
    )
    if n_before:
        out["u_burn_in"] = ("condition", "burn_in", "input"), u[:, :n_before]
        out = out.assign_coords(burn_in=("burn_in", axis[:n_before], {"units": "s"}))
    return out


def _same(value: object, wanted: object) -> bool:
    try:
        return bool(equal_up_to_rounding(float(value), float(wanted)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value) == str(wanted)


def _axis_with_burn_in(recording: xr.Dataset, burn_in_s: float) -> tuple[int, Array]:
    """How many bins the burn-in has, and bin centers from its first bin on, s."""
    step = float(recording.attrs["bin_s"])
    n_before = round(burn_in_s / step) if np.isfinite(burn_in_s) else -1
    if n_before < 0 or burn_in_s < 0 or abs(n_before * step - burn_in_s) > 1e-6:
        raise ContractError(f"burn_in_s is {burn_in_s}; it needs a multiple of the bin, {step:g} s, from 0 on.")
    time = recording["time"].values
    return n_before, np.concatenate([time[0] - step * np.arange(n_before, 0, -1), time])


def _is_on(name: str, window: Window, axis: Array) -> Array:
    """Whether an input with this window is on in each bin."""
    start, stop = window
    on = (axis >= start - 1e-9) & (axis < stop - 1e-9)
    if not on.any():
        raise ContractError(
            f"input {name!r} is on from {start:g} to {stop:g} s, and the time axis runs from {axis[0]:g} to "
            f"{axis[-1]:g} s. Give a window that meets it."
        )
    return on


def _warn_of_early(inputs: Sequence[Input], axis: Array) -> None:
    """Warn of inputs that act before time 0, which trials are aligned to, unless their window says so."""
    early = [one.name for one in inputs if one.window_s is None]
    if early and axis[0] < -1e-9:
        stop = axis[-1] + (axis[1] - axis[0] if len(axis) > 1 else 0.0)
        warn(
            f"input {', '.join(early)} has no window_s and is on from {axis[0]:.3g} s, before time 0 of the trials. "
            "What happens at time 0 cannot act before it. "
            f"Give window_s=(0, {stop:.3g}), or a window that starts before 0."
        )


def _check_independent(u: Array, names: list[str]) -> None:
    """Raise if an input is always 0; warn if some are linear combinations of others, so that weights are ambiguous."""
    flat = u.reshape(-1, u.shape[2]).astype(float)
    norm = np.linalg.norm(flat, axis=0)
    zero = [name for name, size in zip(names, norm, strict=True) if size == 0]
    if zero:
        raise ContractError(f"input {', '.join(zero)} is 0 in every condition. Drop it, or change its column or scale.")
    _, s, vt = np.linalg.svd(flat / norm, full_matrices=False)
    null = vt[s < 1e-6 * s[0]] if len(s) == len(names) else vt
    involved = [name for name, weight in zip(names, np.abs(null).max(axis=0, initial=0), strict=True) if weight > 1e-6]
    if involved:
        warn(
            f"inputs {', '.join(involved)} are collinear: only a combination of their weights is determined. "
            "Drop one of them, or give them different windows."
        )

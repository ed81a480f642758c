"""Columns of the conditions, and courses in time → the inputs u (condition, time, input) of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import column_of, columns_of, find_column
from nwb_lint.contract.values import equal_up_to_rounding, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.options.base import plain
from nwb_lint.options.read_and_prepare import InputOptions
from nwb_lint.options.words import as_toml
from nwb_lint.parallel.warnings import warn

Array = np.ndarray
Window = tuple[float, float]

# What gives the course in time, at most one of them, each with the fields that only it has.
_SOURCES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("values",): ("times",),
    ("start", "stop"): (),
    ("series",): ("series_column", "fill"),
    ("events",): ("where", "amplitude", "width_s"),
    ("table",): ("where", "amplitude"),
    ("product",): (),
}
_IN_FILE = ("start", "stop", "series", "events", "table")
_OF_SOURCE = (
    "start", "stop", "series", "series_column", "events", "table", "where", "amplitude", "width_s", "lag_s",
)  # fmt: skip

# Bins of two time axes whose centers differ by less are the same. Times of inputs may be wrong by rounding.
_SAME_S, _ROUNDING_S = 1e-6, 1e-9


@dataclass(frozen=True)
class Input:
    """One input of the network, or one input for every level of a column and every window.

    u(condition, t) = scale × amplitude(condition) × course(condition, t - lag) inside ``window_s``, and 0 outside. The
    amplitude depends on the column:

    ============================  =============================================================
    ``column`` alone, numbers     the column's value
    ``column`` and ``equals``     1 where the column equals the value, else 0
    ``column`` alone, text, bool  one input for each level, 1 at its level (``name=level``)
    no column                     1 in every condition
    ============================  =============================================================

    The course is 1, or comes from one of these:

    ============================  =============================================================
    ``times`` and ``values``      values at the bins' centers, straight lines between; 0 outside
    ``values``, a function        its value at the bins' centers
    ``start`` and ``stop``        1 in each trial from one event to the other, else 0
    ``series``                    the mean of the series' samples in each bin of each trial
    ``events``                    in each trial the number of events in the bin, or a box of ``width_s`` after each
    ``table``                     the share of the bin in intervals of a table, times ``amplitude``
    ``product``                   the product of other inputs: ``"motion * context"``
    ============================  =============================================================

    ``start``, ``stop``, ``series``, ``events`` and ``table`` are in the file: the readers need such inputs too
    (``inputs=``). A condition has the mean over its trials: those of all sessions that neurons come from, each trial
    with the same weight. With ``within``, a trial counts in the bins that it was observed in, and all trials count
    where none was.

    Parameters
    ----------
    name : str
        Name of the input.
    column : str or None, default=None
        A column of the conditions, or of single trials.
    equals : str, float, bool or None, default=None
        The value of the column at which the input is on.
    scale : float, default=1.0
        Factor of the amplitude, not 0; an input is dimensionless.
    window_s : (float, float), sequence of (float, float) or None, default=None
        Start and stop on the time axis of the recording, s; the start is included, the stop is not. None means always,
        also before time 0. Several windows give one input each (``name START to STOP s``), so that each has its own
        weights: for signals whose effect on the neurons changes in the course of a trial.
    weights : sequence of float or None, default=None
        A factor for each of several windows. They then are one input: the sum of windows × factors.
    lag_s : float, default=0.0
        How much later than its times the input acts, s; negative: earlier. Windows move too.
    times : sequence of float or None, default=None
        Times of ``values`` on the time axis of the recording, s, ascending.
    values : sequence of float, callable or None, default=None
        The course: a value at each of ``times``, or a function of an array of times, s.
    start, stop : str or None, default=None
        Times of each trial, as for ``align`` of `read_conditions`: a column, an expression over columns, or a series of
        events. Without ``start`` the input is on from the first bin, without ``stop`` to the last. It is off in a trial
        that has none of the times that are named.
    series : str or None, default=None
        Path or name of a time series of numbers, such as running speed or eye position. A bin without a sample has the
        line between the samples beside it. Where more than two samples are missing in a row, it has no value.
    series_column : int or None, default=None
        Which column of the series, from 0; needed where it has several.
    events : str or None, default=None
        A column of times of the trials, which may list several for a trial, or path or name of a series or table of
        events.
    table : str or None, default=None
        Name of a table of intervals, such as one of photostimulation.
    where : str or None, default=None
        A query that selects events by their labels (``"label == 'left'"``) or columns, or rows of the table.
    amplitude : str or None, default=None
        Column of the events or intervals that they are multiplied by, such as the power; ``"data"`` of an event series.
    width_s : float or None, default=None
        Length of the box after each event, s. None: a pulse, which counts in the event's bin.
    fill : float or None, default=None
        Value where the series has none. None: this is an error.
    product : str or None, default=None
        Names of other inputs of the list with ``*`` between them; of inputs for several levels, every combination.

    Raises
    ------
    ContractError
        If ``equals`` is given without ``column``, a window does not start before it stops, ``scale`` is 0, or several
        sources are given.

    Examples
    --------
    >>> Input("motion", column="motion", scale=1 / 3, window_s=(0.0, 0.75)).name
    'motion'
    >>> Input("motion", column="motion", window_s=[(0.0, 0.3), (0.3, 0.75)]).windows
    [(0.0, 0.3), (0.3, 0.75)]
    >>> Input("running", series="speed", scale=0.1, lag_s=0.05).definition
    'name = "running", scale = 0.1, lag_s = 0.05, series = "speed"'
    """

    name: str
    column: str | None = None
    equals: str | float | bool | None = None
    scale: float = 1.0
    window_s: Window | Sequence[Window] | None = None
    weights: Sequence[float] | None = None
    lag_s: float = 0.0
    times: Sequence[float] | None = None
    values: Sequence[float] | Callable[[Array], Any] | None = None
    start: str | None = None
    stop: str | None = None
    series: str | None = None
    series_column: int | None = None
    events: str | None = None
    table: str | None = None
    where: str | None = None
    amplitude: str | None = None
    width_s: float | None = None
    fill: float | None = None
    product: str | None = None

    def __post_init__(self) -> None:
        try:
            checked = InputOptions.check({one.name: getattr(self, one.name) for one in fields(self)})
        except ContractError as error:
            raise ContractError(f"input {self.name!r}: {error}") from None
        values = self.values if self.values is None or callable(self.values) else self._numbers(self.values)
        for name, one in (("weights", checked.weights), ("times", checked.times), ("values", values)):
            object.__setattr__(self, name, one)
        for wrong, sentence in self._problems():
            if wrong:
                raise ContractError(f"input {self.name!r} {sentence}")

    def _numbers(self, values: Any) -> tuple[float, ...]:
        """Values of a time course as numbers."""
        try:
            return tuple(np.asarray(values, float).ravel().tolist())
        except (TypeError, ValueError):
            raise ContractError(
                f"input {self.name!r} has values={values!r}. It needs a number at each of times, or a function of "
                "time. Correct it."
            ) from None

    def _problems(self) -> list[tuple[bool, str]]:
        """What may be wrong, and whether it is."""
        windows, given = self.windows, {one.name for one in fields(self) if getattr(self, one.name) is not None}
        sources = [source for source in _SOURCES if given & {*source}]
        own = {name for source in sources for name in _SOURCES[source]}
        alone = sorted(given & {name for names in _SOURCES.values() for name in names} - own)
        several = " and ".join(name for source in sources for name in source if name in given)
        return [
            (
                self.equals is not None and self.column is None,
                f"has equals={self.equals!r} and no column. Name the column too.",
            ),
            (
                self.window_s is not None and not all(len(one) == 2 and one[0] < one[1] for one in windows),
                f"has window_s={self.window_s}; it needs start < stop, in s.",
            ),
            (len(set(windows)) < len(windows), f"has a window twice: {self.window_s}. Give each window once."),
            (self.scale == 0, "has scale=0.0; it needs a number other than 0."),
            (len(sources) > 1, f"has {several}. One of them gives the course in time. Drop the others."),
            (bool(alone), f"has {', '.join(alone)} and nothing that it belongs to. {_needs(alone)}"),
            (
                self.product is not None and bool(given & {"column", "weights"} or self.lag_s),
                "is a product; the inputs that it multiplies have columns, weights and lags. Leave them out here.",
            ),
            *self._problems_of_numbers(),
        ]

    def _problems_of_numbers(self) -> list[tuple[bool, str]]:
        """What may be wrong with weights, times and values, and whether it is."""
        weights, times, values = self.weights, self.times, self.values
        function = callable(values)
        listed: Any = () if values is None or function else values
        return [
            (
                weights is not None and (self.window_s is None or len(weights) != len(self.windows)),
                f"has weights={weights}; it needs one number for each window. Give both.",
            ),
            (function and times is not None, "has times, and values is a function of time. Drop times."),
            (values is not None and not function and times is None, "has values and no times. Give the time of each."),
            (
                not function and times is not None and not _is_course(times, listed),
                f"has {len(times or ())} times and {len(listed)} values. It needs as many finite values as times, "
                "which rise. Correct them.",
            ),
        ]

    @property
    def windows(self) -> list[Window]:
        """The windows, s; without a window the whole time."""
        if self.window_s is None:
            return [(-np.inf, np.inf)]
        if not len(self.window_s):
            raise ContractError(f"input {self.name!r} has no window in window_s. Give one, or None for always.")
        several = isinstance(self.window_s[0], Sequence | np.ndarray)
        return [tuple(one) for one in (self.window_s if several else [self.window_s])]  # type: ignore[arg-type, misc]

    @property
    def in_file(self) -> bool:
        """Whether its course is in the file of the recording."""
        return any(getattr(self, name) is not None for name in _IN_FILE)

    @property
    def source(self) -> str:
        """What is read of it from the file: the same for inputs that differ in scale, column or window only."""
        return self._text([name for name in _OF_SOURCE if name != "lag_s" or self.lag_s])

    @property
    def definition(self) -> str:
        """All that makes it, as the fields of a recipe on one line."""
        given = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return self._text([name for name, (value, default) in given.items() if not _is_number(value, default)])

    def _text(self, names: Sequence[str]) -> str:
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "window_s" in given:
            given["window_s"] = self.windows if len(self.windows) > 1 else self.windows[0]
        if callable(self.values):
            given["values"] = f"function {getattr(self.values, '__name__', '')}".strip()
        return ", ".join(f"{name} = {as_toml(plain(value))}" for name, value in given.items())

    def amplitudes(self, recording: xr.Dataset) -> list[tuple[str, str, Array]]:
        """Name, level (or "") and amplitude in each condition of every input that this one stands for."""
        if self.column is None:
            return [(self.name, "", np.ones(recording.sizes["condition"]))]
        if find_column(recording, self.column, "condition") is None:
            there = ", ".join(columns_of(recording, "condition")) or "none"
            raise ContractError(
                f"input {self.name!r} needs the column {self.column!r}; there are {there}. "
                "Name it in `by` of read_conditions, or in `columns` of read_trials."
            )
        values = column_of(recording, self.column)
        levels = sorted({str(value) for value in values})
        if self.equals is not None:
            on = np.array([same_value(value, self.equals) for value in values])
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

    def course(self, recording: xr.Dataset, axis: Array) -> Array:
        """The course at each time of an axis, (condition or 1, time).

        Raises
        ------
        ContractError
            If it is in the file and was not read with the recording, or has no value somewhere.
        """
        if self.in_file:
            return self._course_of_file(recording, axis)
        if self.values is None:
            return np.ones((1, len(axis)))
        times = axis - self.lag_s
        if not callable(self.values):
            known = np.asarray(self.times)
            inside = (times >= known[0] - _ROUNDING_S) & (times <= known[-1] + _ROUNDING_S)
            return np.where(inside, np.interp(times, known, self.values), 0.0)[None]
        found = np.asarray(self.values(times))
        if found.dtype.kind not in "biuf" or found.shape not in ((), times.shape) or not np.isfinite(found).all():
            raise ContractError(
                f"input {self.name!r} has values of shape {found.shape} at {len(times)} times. A function needs to "
                "give a finite number for each time. Correct it."
            )
        return np.broadcast_to(found.astype(float), times.shape)[None]

    def samples(self, recording: xr.Dataset, axis: Array) -> Array:
        """What the file has at each time of an axis, (condition, time); NaN where it was not observed.

        Raises
        ------
        ContractError
            If it was not read with the recording, or not at these times.
        """
        there = recording["course"].values.tolist() if "input_course" in recording else []
        if self.source not in there:
            read = f"It has {'; '.join(there)}" if there else "It has none"
            raise ContractError(
                f"input {self.name!r} needs {self.source} of the file, which was not read with the recording. {read}. "
                "Give the same inputs to read_conditions or read_trials, as inputs=."
            )
        known = recording["course_time"].values
        at = np.clip(np.searchsorted(known, axis - _SAME_S), 0, len(known) - 1)
        if (np.abs(known[at] - axis) > _SAME_S).any():
            raise ContractError(
                f"input {self.name!r} was read from {known[0]:.4g} to {known[-1]:.4g} s, and is needed from "
                f"{axis[0]:.4g} to {axis[-1]:.4g} s in the bins of the recording. Give the reader the burn_in_s of "
                "prepare."
            )
        course: Array = recording["input_course"].transpose("condition", "course_time", "course").values
        return course[:, at, there.index(self.source)]

    def _course_of_file(self, recording: xr.Dataset, axis: Array) -> Array:
        course = self.samples(recording, axis)
        unknown = np.isnan(course)
        if self.fill is None and unknown.any():
            raise ContractError(
                f"input {self.name!r} has no value in {int(unknown.sum())} of {unknown.size} samples: "
                f"{self.series} was not observed there, {_places(recording, unknown, axis)}. Give it a narrower "
                "window of reading, leave trials out by where, or give fill, the value that it has there."
            )
        return course if self.fill is None else np.where(unknown, self.fill, course)

    def _on(self, axis: Array) -> list[tuple[str, Window, Array]]:
        """What stands behind the name, start and stop, and the factor at each time, of every window or of all."""
        moved = [(start + self.lag_s, stop + self.lag_s) for start, stop in self.windows]
        on = [_is_on(self.name, window, axis) for window in moved]
        if self.weights is not None:
            whole = min(start for start, _ in moved), max(stop for _, stop in moved)
            return [("", whole, np.asarray(self.weights) @ np.array(on, float))]
        ends = [f" {start:g} to {stop:g} s" if len(on) > 1 else "" for start, stop in self.windows]
        return list(zip(ends, moved, on, strict=True))


class _Row(NamedTuple):
    """One input: the `Input` that it is of, its name, level and window, and u (condition, time)."""

    of: Input
    name: str
    level: str
    window: Window
    u: Array


def build_inputs(recording: xr.Dataset, inputs: Sequence[Input], burn_in_s: float) -> xr.Dataset:
    """The inputs of all conditions on the time axis of a recording.

    It warns of inputs that are collinear, and of inputs without a window that are on before time 0.

    Parameters
    ----------
    recording : xarray.Dataset
        Coordinates ``time``, s, and columns on ``condition``; attribute ``bin_s``; ``input_course (condition,
        course_time, course)`` for inputs in the file.
    inputs : sequence of Input
        At least one.
    burn_in_s : float
        Time before the first bin in which the network runs on its inputs, s; a multiple of the bin.

    Returns
    -------
    xarray.Dataset
        ``u (condition, time, input)``, dimensionless; ``u_burn_in (condition, burn_in, input)`` if ``burn_in_s`` is
        above 0; the coordinates ``input`` (names), ``input_column``, ``input_equals``, ``input_scale``,
        ``input_start_s``, ``input_stop_s`` and ``input_definition``, all fields as a text, define each input.

    Raises
    ------
    ContractError
        If a column or level is not known, a name occurs twice, a window is outside the time axis, or an input is 0 in
        every condition.
    """
    check_inputs(inputs)
    n_before, axis = _axis_with_burn_in(recording, burn_in_s)
    _warn_of_early(inputs, axis)
    found: dict[int, list[_Row]] = {}
    for k, one in sorted(enumerate(inputs), key=lambda pair: pair[1].product is not None):  # products come last
        found[k] = _rows(one, recording, axis) if one.product is None else _products(one, found, axis)
    rows = [row for k in range(len(inputs)) for row in found[k]]
    if not rows:
        raise ContractError(
            "no inputs were given. A network needs at least one Input, such as Input('stimulus', column=…)."
        )
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise ContractError(f"two inputs have the same name: {', '.join(names)}. Give each input its own name.")
    u = np.stack([row.u for row in rows], axis=2).astype(np.float32)
    _check_independent(u, names)
    windows = np.array([row.window for row in rows], float)
    windows[~np.isfinite(windows)] = np.nan
    out = xr.Dataset(
        {"u": (("condition", "time", "input"), u[:, n_before:])},
        coords={
            "input": ("input", np.array(names)),
            "input_column": ("input", np.array([row.of.column or "" for row in rows])),
            "input_equals": ("input", np.array([row.level for row in rows])),
            "input_scale": ("input", np.array([float(row.of.scale) for row in rows])),
            "input_start_s": ("input", windows[:, 0]),
            "input_stop_s": ("input", windows[:, 1]),
            "input_definition": ("input", np.array([_sampled(row.of, axis).definition for row in rows])),
        },
    )
    if n_before:
        out["u_burn_in"] = ("condition", "burn_in", "input"), u[:, :n_before]
        out = out.assign_coords(burn_in=("burn_in", axis[:n_before], {"units": "s"}))
    return out


def check_inputs(inputs: object) -> None:
    """Raise ContractError unless these are a list of `Input`."""
    listed = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    if not listed or not all(isinstance(one, Input) for one in inputs):  # type: ignore[attr-defined]
        raise ContractError(f"inputs is {inputs!r}. It needs a list of Input. Pass [Input('stimulus', column=…)].")


def without_courses(recording: xr.Dataset) -> xr.Dataset:
    """The recording without what was read for inputs."""
    return recording.drop_dims([dim for dim in ("course", "course_time") if dim in recording.dims])


def _rows(one: Input, recording: xr.Dataset, axis: Array) -> list[_Row]:
    """Every input that an `Input` stands for: one for each level and window."""
    course = one.course(recording, axis)
    rows = []
    for (name, level, amplitude), (end, window, on) in product(one.amplitudes(recording), one._on(axis)):
        rows.append(_Row(one, name + end, level, window, one.scale * amplitude[:, None] * course * on))
    return rows


def _products(one: Input, found: dict[int, list[_Row]], axis: Array) -> list[_Row]:
    """The products of the inputs that a product names; of several for a name, every combination."""
    by_name: dict[str, list[_Row]] = {}
    for row in (row for rows in found.values() for row in rows):
        by_name.setdefault(row.name, [row])
    for rows in found.values():
        by_name |= {rows[0].of.name: rows}
    names = [name.strip() for name in str(one.product).split("*")]
    if len(names) < 2 or not all(name in by_name for name in names):
        raise ContractError(
            f"input {one.name!r} has product={one.product!r}. The inputs before it are {', '.join(by_name) or 'none'}. "
            "Name two or more of them with * between."
        )
    rows = []
    for parts in product(*(by_name[name] for name in names)):
        ends = [part.name.removeprefix(part.of.name) for part in parts]
        for end, window, on in one._on(axis):
            u = one.scale * on * np.prod([part.u for part in parts], axis=0)
            rows.append(_Row(one, one.name + "".join(ends) + end, "", window, u))
    return rows


def _sampled(one: Input, axis: Array) -> Input:
    """The input with a function of time as values at the bins' centers."""
    if not callable(one.values):
        return one
    times = axis - one.lag_s
    values = np.broadcast_to(np.asarray(one.values(times), float), times.shape)
    return replace(one, times=times.tolist(), values=values.tolist())


def _places(recording: xr.Dataset, unknown: Array, axis: Array) -> str:
    """Where an input has no value: conditions (or trials) and times, in words."""
    of = np.flatnonzero(unknown.any(axis=1))
    times = axis[unknown.any(axis=0)]
    labels = recording["condition"].values[of] if "condition" in recording.coords else of
    return f"in {len(of)} of {len(unknown)}, such as {labels[0]}, from {times[0]:.4g} to {times[-1]:.4g} s"


def _needs(names: Sequence[str]) -> str:
    """Which sources the fields of sources need."""
    needed = dict.fromkeys(" or ".join(source) for name in names for source, own in _SOURCES.items() if name in own)
    return f"Give {' or '.join(needed)} too."


def _is_course(times: Sequence[float], values: Sequence[float]) -> bool:
    """Whether there is a finite value at each of times that rise."""
    finite = np.isfinite([*times, *values]).all()
    return len(times) > 0 and len(times) == len(values) and bool(finite and (np.diff(times) > 0).all())


def _is_number(value: Any, default: Any) -> bool:
    """Whether a field has a number as default, and this number."""
    return isinstance(default, float) and value == default


def same_value(value: object, wanted: object) -> bool:
    """Whether a value of a column is the wanted one: equal numbers, also as texts, or equal texts."""
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
    on = (axis >= start - _ROUNDING_S) & (axis < stop - _ROUNDING_S)
    if not on.any():
        raise ContractError(
            f"input {name!r} is on from {start:g} to {stop:g} s, and the time axis runs from {axis[0]:g} to "
            f"{axis[-1]:g} s. Give a window that meets it."
        )
    return on


def _warn_of_early(inputs: Sequence[Input], axis: Array) -> None:
    """Warn of inputs that act before time 0, which trials are aligned to, unless their window says so."""
    alone = [one for one in inputs if not one.in_file and one.values is None and one.product is None]
    early = [one.name for one in alone if one.window_s is None]
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

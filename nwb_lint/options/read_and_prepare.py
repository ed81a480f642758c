"""Options of reading and preparing data, and the fields of inputs and readouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from nwb_lint.options.base import Options, Seconds, Window, derived, option

Names = tuple[str, str]
By = str | dict[str, Literal["rank"] | tuple[float, ...]]


class TrialOptions(Options):
    """Options of `read_trials`."""

    align: str | Callable[..., Any] = option(
        ..., "Trial column, expression of columns, event series or function that gives time 0."
    )
    align_where: str | None = option(None, "Query over the labels or columns of the events that align names.")
    align_which: Literal["first", "last"] | int | None = option(
        None, "Which of several times of a trial is time 0; numbers count from 0."
    )
    window_s: Window = option(..., "Start and end of the time axis around the alignment, s.")
    bin_s: Seconds = option(..., "Width of a time bin, s.", gt=0)
    where: str | None = option(None, "Query over the trial columns, such as \"correct and context == 'motion'\".")
    units: str | tuple[int | float | str, ...] | None = option(
        None, "Query over columns of units, electrodes and electrode groups, or ids or labels of units."
    )
    units_table: str | None = option(None, "Path of the units table; None: /units, or the only one of the file.")
    unit_columns: tuple[str, ...] = option((), "Unit and electrode columns that are kept on the neurons.")
    series: str | None = option(None, "Path or name of a time series that is read in place of spikes.")
    table: str | tuple[str, ...] = option("trials", "Interval table with the trials; several are read as one.")
    columns: tuple[str, ...] | dict[str, str] | None = option(
        None, "Trial columns that are kept; None: all; {name = 'expression'} adds columns to all."
    )
    within: Names | None = option(None, "Two time columns: a trial is observed between them only.")
    warp: Names | None = option(None, "Two events: time between them is stretched to the median interval.")
    infer_obs: bool = option(False, "Trials after the last spike of a unit count as not observed.")
    download: bool = option(False, "Keep remote files as whole files on this machine.")
    external: bool = option(False, "Read other files that a file names: external links, HDF5 external storage.")
    exclude: tuple[str, ...] = option((), "Files that are left out: names, or patterns in which * is any text.")
    inputs: tuple[Any, ...] = option((), "Inputs of the network; those whose courses are in the file are read.")


class ReadOptions(derived("_Reading", TrialOptions, without=("columns",))):  # type: ignore[misc]
    """Options of `read_conditions`."""

    by: By | tuple[By, ...] = option(
        ...,
        "Trial columns that conditions are made of; {column = 'rank'} groups by rank, {column = [edges]} by bins.",
    )
    columns: dict[str, str] | None = option(
        None, "Columns that expressions over others give: {contrast = 'contrast_right - contrast_left'}."
    )
    smooth_s: Seconds | None = option(None, "Standard deviation of the Gaussian that smooths rates, s.", ge=0)
    min_trials: int = option(1, "Trials that a unit needs in every condition.", ge=1)
    missing: Literal["drop", "keep"] = option("drop", "Drop units that miss a condition, or keep them as NaN.")
    halves: bool = option(False, "Read also the means of two random halves of the trials, which ceilings need.")
    draws: int = option(0, "Resamples of the trials within conditions, which bootstrap needs.", ge=0)
    seed: int = option(0, "Seed of the trial halves and resamples.", ge=0)
    burn_in_s: Seconds = option(0.0, "Time before the window for which inputs are read too, s.", ge=0)
    errors: Literal["raise", "skip"] = option("raise", "Stop at a file that cannot be read, or skip it with a warning.")


class PrepareOptions(Options):
    """Options of `prepare`."""

    n_components: int | None = option(12, "Principal components that denoise the rates; None keeps the rates.", ge=1)
    center: bool | Window = option(True, "Subtract the mean of each neuron, over all times or over a window, s.")
    time_course: bool = option(True, "Subtract the mean time course over conditions.")
    scale: float | Literal["auto", "neuron"] = option(
        "auto", "Hz for a unit of activity: one for all, one a neuron, or a number."
    )
    rate_link: Literal["identity", "softplus", "log", "saturating"] = option(
        "identity", "What is linear in the activation: the rate, or a function of it."
    )
    burn_in_s: Seconds = option(0.0, "Time that the network runs on its inputs before the first bin, s.", ge=0)


class InputOptions(Options):
    """Fields of an `Input`."""

    name: str = option(..., "Name of the input.")
    column: str | None = option(None, "Trial column that sets the amplitude; None: 1 in every condition.")
    equals: str | float | bool | None = option(None, "The input is 1 where the column has this value, else 0.")
    scale: float = option(1.0, "Factor of the amplitude.")
    window_s: Window | tuple[Window, ...] | None = option(
        None, "When the input is on, s; several windows: an input for each; None: always."
    )
    weights: tuple[float, ...] | None = option(None, "A factor for each window: all windows are then one input.")
    lag_s: Seconds = option(0.0, "How much later than its times the input acts, s; negative: earlier.")
    times: tuple[float, ...] | None = option(None, "Times of the values, s; straight lines between them, 0 outside.")
    values: Any = option(None, "The course in time: a value at each of times, or in Python a function of time.")
    start: str | None = option(None, "The input is on in each trial from this time on: a trial column, or events.")
    stop: str | None = option(None, "The input is on in each trial up to this time: a trial column, or events.")
    series: str | None = option(None, "Path or name of a time series of the file, averaged over the trials.")
    series_column: int | None = option(None, "Which column of the series, where it has several; from 0.", ge=0)
    events: str | None = option(None, "Trial column of times, or series or table of events: a pulse at each.")
    table: str | None = option(None, "Name of a table of intervals: the input is on in each of them.")
    where: str | None = option(None, "Query that selects events, by label or columns, or rows of the table.")
    amplitude: str | None = option(None, "Column of the events or intervals that multiplies them, such as power.")
    width_s: Seconds | None = option(None, "Length of a box after each event, s; None: a pulse in its bin.", gt=0)
    fill: float | None = option(None, "Value where the series was not observed; None: this is an error.")
    product: str | None = option(None, "Names of other inputs with * between: their product.")


class BehaviorOptions(Options):
    """Fields of a `Readout`."""

    name: str = option(..., "Name of the readout.")
    column: str | None = option(None, "Column of the trials or conditions: a choice, or a number.")
    equals: str | float | bool | None = option(None, "Value of the column that counts as 1; None: the larger of two.")
    series: str | None = option(None, "Path or name of a time series of the file: a number in each bin.")
    series_column: int | None = option(None, "Which column of the series, where it has several; from 0.", ge=0)
    log: bool = option(False, "Read the logarithm of the numbers, as of reaction times.")
    window_s: Window | None = option(None, "Bins in which it is read, s; None: always.")

    def _check_combinations(self) -> None:
        if (self.column is None) == (self.series is None):
            raise ValueError("A readout needs one of column and series. Give one of them.")
        if self.series is not None and self.equals is not None:
            raise ValueError("equals is of a column, and series is given. Leave out equals.")
        if self.series_column is not None and self.series is None:
            raise ValueError("series_column is of a series. Give series, or leave it out.")
        if self.window_s is not None and not self.window_s[0] < self.window_s[1]:
            raise ValueError(f"window_s is {self.window_s}. It needs start < stop, in s.")

"""Recording → activity: centered, denoised and scaled rates, and the inputs of the network; all can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.behavior import Readout, as_conditions, build_behavior, readout_coords
from nwb_lint.contract.checks import check_activity, check_dataset, check_recording
from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input, build_inputs, without_courses
from nwb_lint.options.checks import validated
from nwb_lint.options.read_and_prepare import PrepareOptions
from nwb_lint.parallel.warnings import warn
from nwb_lint.rate_link import Link

Array = np.ndarray

CARRIED = ("n_trials", "n_trials_half")

# `_noise_factor`: rounds that fit the signal, signs of the noise in each, and the largest share of samples whose noise
# may be unknown. Measured on: simulated rank-1 and rank-2 networks, 60 to 200 units, 2 to 20 Poisson trials, seeds 0 to
# 7. Twice as many rounds and signs changed the ceiling by at most .005.
NOISE_ROUNDS, NOISE_DRAWS, MAX_UNKNOWN_NOISE = 6, 2, 0.1

# One neuron of fewer than this many may well have more than half of the variance.
MIN_FOR_SHARE = 10

# With more neurons than this, and fewer samples, no matrix of neurons × neurons is made.
MANY_NEURONS = 2000

# Above this number of samples, or of neurons, one draw of the noise of the means is enough.
MANY_FOR_NOISE = 400

# Above this number of both, the leading components of noise are found by Lanczos iterations.
MANY_FOR_PRODUCTS = 1000


class _Steps(NamedTuple):
    """What the preparation estimated: offset (time?, neuron), components (pc, neuron) or None, scale (neuron)."""

    mean: Array
    component: Array | None
    course: Array
    scale: Array

    def apply(self, rate: Array) -> Array:
        """(… condition, time, neuron) Hz → dimensionless activity."""
        centered = rate - self.mean
        if self.component is not None:
            missing = np.isnan(centered)
            flat = np.where(missing, 0, centered) @ self.component.T @ self.component
            centered = np.where(missing, np.nan, flat)
        return ((centered - self.course) / self.scale).astype(np.float32)

    def kept(self, link: Link, units: dict[str, str]) -> dict[str, tuple]:
        """The variables that undo the preparation, with the bounds of the link if it has any."""
        shared = ("time", "neuron") if self.course.ndim == 2 else ("neuron",)
        out: dict[str, tuple] = {"offset": (shared, self.mean + self.course + 0 * self.scale, units)}
        for name, values in (("scale", self.scale), ("rate_low", link.low), ("rate_high", link.high)):
            if values is not None:
                out[name] = ("neuron",), values, units
        if self.component is not None:
            out["component"] = ("pc", "neuron"), self.component
        return out


@validated(PrepareOptions)
def prepare(
    recording: xr.Dataset,
    *,
    inputs: Sequence[Input],
    n_components: int | None = 12,
    center: bool | tuple[float, float] = True,
    time_course: bool = True,
    scale: float | str = "auto",
    rate_link: str = "identity",
    burn_in_s: float = 0.0,
    fit_on: object = None,
    readouts: Sequence[Readout] = (),
) -> xr.Dataset:
    """Turn rates into the activity that a network is fitted to, and trial columns into its inputs.

    activity = (P (rate - mean) - course) / scale. The mean (neuron) is taken over time and the ``fit_on`` conditions, P
    projects on the leading principal components, and the course (time, neuron) is the average over conditions of what
    is left. All are estimated on the ``fit_on`` conditions alone and kept, so that rate = activity * scale + offset
    with offset = mean + course; with n_components=None this is exact.

    With a ``rate_link``, the same is done with link(rate), in Hz, in place of the rate, and undone by its inverse. R²
    and its ceiling are then those of link(rate). `nwb_lint.compare_links` says which link predicts the rates best.

    Parameters
    ----------
    recording : xarray.Dataset
        From `read_conditions`: ``rate (condition, time, neuron)``, Hz; NaN = not observed. Or single trials from
        `read_trials`, for `fit_trials`: their counts stay as they are, and only ``inputs`` and ``readouts`` are used.
    inputs : sequence of Input
        The inputs of the network, at least one; for single trials there may be none.
    n_components : int or None, default=12
        Principal components that are kept. None, or the number of neurons and more: no denoising.
    center : bool or (float, float), default=True
        Subtract the mean of each neuron over time and conditions. Two numbers: its mean in this window, s. The network
        then rests in the window (x = 0), where tanh is steepest.
    time_course : bool, default=True
        Subtract the time course that all conditions share.
    scale : float, "auto" or "neuron", default="auto"
        Hz for a unit of activity. It sets where tanh operates. "auto": the root mean square of the prepared rates, the
        same for all neurons, or, with a warning, that of each neuron where one has more than half of the power.
        "neuron": that of each neuron.
    rate_link : {"identity", "softplus", "log", "saturating"}, default="identity"
        What is linear in the activation: the rate; log(exp(rate / 5 Hz) - 1), for rates that end at 0 Hz; log(1 + rate
        / 1 Hz), for rates that multiply; or arctanh of the rate within the range of each neuron in the ``fit_on``
        conditions, for rates that saturate at both ends.
    burn_in_s : float, default=0.0
        Time that the network runs on its inputs before the first bin, s; no data constrain it there.
    fit_on : labels, positions or array of bool, default=None
        Conditions used for the estimates; None = all. `fit_lint` holds the others out.
    readouts : sequence of Readout, default=()
        Behavior that the network is fitted to, too; it warns where an input has the same column or series. Of means it
        is that of the conditions: a column that they have, or the mean of a series over their trials.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)`` float32, dimensionless; ``u (condition, time, input)``, with the labels
        of the inputs as coordinate ``input``; ``u_burn_in``, ``offset``, ``scale``, ``component``, and the range
        ``rate_low``, ``rate_high (neuron)`` of a link that saturates, Hz; the coordinate
        ``held_out (condition)`` if ``fit_on`` leaves conditions out. With halves of the trials and components also
        ``noise_factor (condition)``: how many times as much noise the activity has as its halves show, because
        components follow the noise of the conditions that they were estimated from. With readouts also ``behavior
        (condition, time, readout)``, NaN where it is not observed. Of single trials: the same Dataset with ``u (trial,
        time, input)`` and ``behavior``.

    Raises
    ------
    ContractError
        If a column, level or condition is not there, or the rates do not vary.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 3.3. There the data were centered and denoised on all conditions.

    Examples
    --------
    >>> from nwb_lint.testing import mock_recording
    >>> activity = prepare(mock_recording(), inputs=[Input("cue", window_s=(0, 1))], n_components=None)
    >>> activity["activity"].dims
    ('condition', 'time', 'neuron')
    """
    check_dataset(recording, "recording", "Call read_conditions(...)")
    if "count" in recording or "trial" in recording.dims:
        given = {"n_components": n_components, "center": center, "time_course": time_course, "scale": scale}
        return _prepare_trials(
            recording, inputs, readouts, given | {"rate_link": rate_link, "burn_in_s": burn_in_s, "fit_on": fit_on}
        )
    check_recording(recording)
    train = conditions_mask(recording, fit_on)
    rate = recording["rate"].values.astype(float)
    resting = _baseline(recording["time"].values, center)
    if np.isinf(rate).any():
        raise ContractError(
            f"rate has {int(np.isinf(rate).sum())} infinite values. It needs numbers in Hz, or NaN. Remove them."
        )
    units = {"units": recording["rate"].attrs.get("units", "Hz")}
    link = Link.estimated(rate_link, rate[train])
    if rate_link != "identity":
        recording = _linked(recording, link)
        rate = recording["rate"].values
    steps = _estimate(rate[train], n_components, resting, time_course, scale, recording["neuron"].values)
    out = build_inputs(recording, inputs, burn_in_s)
    out["activity"] = ("condition", "time", "neuron"), steps.apply(rate), {"units": "1"}
    if "rate_half" in recording:
        out["activity_half"] = (
            ("half", "condition", "time", "neuron"),
            steps.apply(recording["rate_half"].values),
        )
        if steps.component is not None:
            factor = np.ones(len(train))
            factor[train] = _noise_factor(recording.isel(condition=train), resting, steps)
            out["noise_factor"] = ("condition",), factor
    out = out.assign(steps.kept(link, units))
    out = _with_behavior(out, recording, inputs, readouts)
    for name in CARRIED:
        if name in recording:
            out[name] = recording[name]
    kept = without_courses(recording).coords
    out = out.assign_coords({k: v for k, v in kept.items() if k not in out.variables})
    if not train.all():
        out = out.assign_coords(held_out=("condition", ~train))
    out.attrs = dict(recording.attrs) | {
        "center": int(center) if isinstance(center, bool) else [float(c) for c in center],
        "time_course": int(time_course),
        "scale": str(scale),
        **({} if rate_link == "identity" else {"rate_link": rate_link}),
    }
    check_activity(out)
    return out


def _linked(recording: xr.Dataset, link: Link) -> xr.Dataset:
    """The recording with link(rate) in place of the rates and of those of trial halves."""
    names = [name for name in ("rate", "rate_half") if name in recording]
    return recording.assign(
        {name: (recording[name].dims, link.of_rate(recording[name].values.astype(float))) for name in names}
    )


def _with_behavior(
    out: xr.Dataset, data: xr.Dataset, inputs: Sequence[Input], readouts: Sequence[Readout]
) -> xr.Dataset:
    """A Dataset with the behavior of trials or of a recording; it warns of a readout that is an input too."""
    if not readouts:
        return out
    own = build_behavior(data, readouts)
    for readout in readouts:
        for one in inputs:
            if (readout.column, readout.series, readout.series_column) == (one.column, one.series, one.series_column):
                warn(
                    f"The readout {readout.name!r} and the input {one.name!r} are both {(one.column or one.series)!r}. "
                    "Latents have it from the input, so that scores of the readout say nothing of the neurons. Leave "
                    "out one of them."
                )
    return out.assign(behavior=own["behavior"].variable).assign_coords(readout_coords(own))


def _prepare_trials(
    trials: xr.Dataset, inputs: Sequence[Input], readouts: Sequence[Readout], given: dict[str, object]
) -> xr.Dataset:
    """Trials with ``u (trial, time, input)`` and ``behavior`` from their columns; counts stay as they are."""
    defaults = {name: field.default for name, field in PrepareOptions.model_fields.items()} | {"fit_on": None}
    wrong = [name for name, value in given.items() if value is not defaults[name] and value != defaults[name]]
    if wrong:
        raise ContractError(
            f"{', '.join(wrong)} prepares mean rates, and these are single trials, whose counts stay as they are. "
            "Leave it out."
        )
    bare = without_courses(trials)
    bare = bare.drop_dims({"input", "readout"} & set(bare.dims))  # of an earlier preparation
    bare = _with_behavior(bare, trials, inputs, readouts)
    if not inputs:
        return bare.copy()
    built = build_inputs(as_conditions(trials), inputs, 0.0)
    of_inputs = {k: v for k, v in built.coords.items() if v.dims == ("input",)}
    return bare.assign(u=(("trial", "time", "input"), built["u"].values)).assign_coords(of_inputs)


def conditions_mask(dataset: xr.Dataset, which: object, *, nobody: bool = False) -> Array:
    """Boolean (condition) of the conditions named by labels, positions or a boolean array; None = all of them."""
    return mask_of(condition_labels(dataset), which, "condition", nobody=nobody)


def condition_labels(dataset: xr.Dataset) -> Array:
    """Labels of the conditions as texts; their positions where they have none."""
    size = dataset.sizes["condition"]
    labels = dataset["condition"].values if "condition" in dataset.coords else np.arange(size)
    return labels.astype(str)


def drawn_conditions(dataset: xr.Dataset, test_size: float | None, test_conditions: object, seed: int) -> Array | None:
    """Boolean (condition) of the test conditions: those named, or so many drawn with the seed; None for neither.

    Raises ContractError for both at once, a size that is no fraction and no whole number, and conditions that are not
    there.
    """
    size = dataset.sizes["condition"]
    if test_conditions is not None:
        if test_size is not None:
            raise ContractError(
                f"test_size={test_size!r} and test_conditions are both given. One of them is needed. Drop the other."
            )
        return conditions_mask(dataset, test_conditions, nobody=True)
    return None if test_size is None else drawn(size, test_size, seed, "condition")


def drawn(size: int, test_size: float | None, seed: int, what: str = "trial") -> Array:
    """Boolean mask of so many of ``size`` things (a fraction, or a number), drawn with the seed; nobody for None."""
    held = np.zeros(size, bool)
    if test_size is None:
        return held
    number = max(round(test_size * size), 1) if 0 < test_size < 1 else int(test_size)
    if not 0 <= test_size <= size or (test_size >= 1 and number != test_size):
        raise ContractError(
            f"test_size is {test_size:g} of {size} {what}s. It needs a fraction between 0 and 1, or a whole number "
            f"of {what}s."
        )
    held[np.random.default_rng(seed).permutation(size)[:number]] = True
    return held


def mask_of(labels: Array, which: object, what: str, *, nobody: bool = False) -> Array:
    """Boolean mask over ``labels`` (text) of those named by labels, positions or a boolean array; None = all of them.

    ``what`` names the things in messages. Raises ContractError for one that is not there, and for none at all unless
    ``nobody`` may be chosen.
    """
    size = len(labels)
    if which is None:
        return np.ones(size, bool)
    wanted = np.atleast_1d(np.asarray(which))
    if wanted.ndim > 1:
        raise ContractError(f"A table of shape {wanted.shape} chooses {what}s. It needs to be a list. Use one list.")
    mask = np.zeros(size, bool)
    if wanted.dtype.kind == "b":
        if wanted.shape != (size,):
            raise ContractError(
                f"The boolean array has {wanted.size} entries. There are {size} {what}s. Give one entry for each."
            )
        mask = wanted.copy()
    elif wanted.dtype.kind in "iu":
        if ((wanted < 0) | (wanted >= size)).any():
            raise ContractError(f"Positions {wanted.tolist()} were chosen. They need to be between 0 and {size - 1}.")
        mask[wanted] = True
    else:
        unknown = sorted(set(wanted.astype(str)) - set(labels))
        if unknown:
            raise ContractError(
                f"No {what} is called {str(unknown[0])!r}. The first are {', '.join(labels[:4])}. Use such a label."
            )
        mask = np.isin(labels, wanted.astype(str))
    if not (nobody or mask.any()):
        raise ContractError(f"None of the {size} {what}s was chosen. At least one is needed. Choose one.")
    return mask


def times_in(time: Array, window_s: Sequence[float] | None, what: str = "the window") -> Array:
    """Boolean (time): start <= time < stop, all for None.

    ``what`` names the window in messages. Raises ContractError for a window that holds no time.
    """
    if window_s is None:
        return np.ones(len(time), bool)
    start, stop = window_s
    inside = (time >= start) & (time < stop)
    if not inside.any():
        raise ContractError(
            f"{what} is {start:g} to {stop:g} s. Time runs from {time[0]:g} to {time[-1]:g} s. Give a window within it."
        )
    return inside


def _baseline(time: Array, center: bool | tuple[float, float]) -> Array:
    """Boolean (time) of the samples that the mean is taken over; none for no centering."""
    return np.full(len(time), center) if isinstance(center, bool) else times_in(time, center, "center")


def _estimate(
    rate: Array, n_components: int | None, resting: Array, time_course: bool, scale: float | str, names: Array
) -> _Steps:
    n_neurons = rate.shape[2]
    unseen = np.isnan(rate).all(axis=(0, 1))
    if unseen.any():
        raise ContractError(
            f"{int(unseen.sum())} of {n_neurons} neurons have no observed sample in these conditions. Each needs one. "
            'Read with missing="drop", or name more conditions in fit_on.'
        )
    kept = rate[:, resting]
    seen = np.isfinite(kept)
    mean = np.where(seen, kept, 0).sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1)
    centered = rate - mean
    component = None
    if n_components is not None and n_components < n_neurons:
        flat = np.nan_to_num(centered).reshape(-1, n_neurons)
        component = _decomposed(flat, n_components)[1].T
        centered = np.where(np.isnan(centered), np.nan, np.nan_to_num(centered) @ component.T @ component)
    course = np.zeros(n_neurons)
    if time_course:
        seen = np.isfinite(centered)
        course = np.where(seen, centered, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    left = centered - course
    return _Steps(mean, component, course, _scale_of(left, scale, names))


def _noise_of_means(recording: xr.Dataset) -> Array:
    """A sample of the noise of the means, (condition, time, neuron): the scaled difference of two halves of trials."""
    halves = recording["rate_half"].values.astype(float)
    first, second = recording["n_trials_half"].values[:, :, None].astype(float)
    share = np.sqrt(first * second) / np.maximum(first + second, 1)
    return np.where(share > 0, (halves[0] - halves[1]) * share, np.nan)


def _noise_factor(recording: xr.Dataset, resting: Array, steps: _Steps) -> float:
    """Noise within components that were estimated with this noise / noise of other trials within them.

    A parametric bootstrap: the simulated data are the noise of the means with random signs, plus the signal that gives
    the sum the singular values of the data. NaN, with a warning, where too much of the noise is unknown.
    """
    assert steps.component is not None
    rate, noise = recording["rate"].values.astype(float), _noise_of_means(recording)
    lacking = (np.isnan(noise) & np.isfinite(rate)).sum() / max(np.isfinite(rate).sum(), 1)
    if lacking > MAX_UNKNOWN_NOISE:
        warn(
            f"{lacking:.0%} of the samples have no two halves of trials. How far the components follow the noise is "
            "unknown, so R² of the conditions that they were estimated from has no ceiling. Use more trials for each "
            "condition, or n_components=None."
        )
        return np.nan
    noise = np.nan_to_num(noise)

    def flat(values: Array) -> Array:
        centered = values - values[:, resting].mean(axis=(0, 1)) if resting.any() else values
        return centered.reshape(-1, values.shape[2])

    number, left = len(steps.component), np.nan_to_num(rate - steps.mean)
    goal, axes = _leading(left.reshape(-1, rate.shape[2]), number)
    scores = left @ (axes / np.maximum(goal, np.finfo(float).tiny))
    rng = np.random.default_rng(0)
    draws = 1 if min(left[..., 0].size, left.shape[2]) > MANY_FOR_NOISE else NOISE_DRAWS  # many samples agree
    drawn = [noise * rng.choice([-1.0, 1.0], (len(noise), 1, 1)) for _ in range(draws)]
    signal, inside = np.sqrt(np.maximum(goal**2 - _leading(flat(noise), 1)[0] ** 2, 0)), 0.0
    for _ in range(NOISE_ROUNDS):
        found = [_leading(flat((scores * signal) @ axes.T + one), number) for one in drawn]
        inside = np.mean([((one @ own) ** 2).sum() for one, (_, own) in zip(drawn, found, strict=True)])
        reached = np.mean([values for values, _ in found], axis=0)
        signal = np.sqrt(np.maximum(signal**2 + goal**2 - reached**2, 0))
    outside = ((noise @ steps.component.T) ** 2).sum()
    return max(1.0, float(inside / outside)) if outside > 0 else 1.0


def _leading(matrix: Array, number: int) -> tuple[Array, Array]:
    """The largest singular values of a matrix, in falling order, and their right singular vectors (column, number)."""
    from scipy.sparse.linalg import svds

    if min(matrix.shape) > max(MANY_FOR_PRODUCTS, 10 * number):
        _, values, vectors = svds(matrix, number, tol=1e-3, v0=np.ones(min(matrix.shape)))
        return values[::-1], vectors[::-1].T
    return _decomposed(matrix, number)


def _decomposed(matrix: Array, number: int) -> tuple[Array, Array]:
    """As `_leading`, but exact: from the products of the rows, if they are much fewer than the columns."""
    from scipy.linalg import eigh

    rows, columns = matrix.shape
    of_rows = max(MANY_NEURONS, rows) < columns and number <= rows
    products = matrix @ matrix.T if of_rows else matrix.T @ matrix
    size = len(products)
    power, vectors = eigh(products, subset_by_index=(max(0, size - number), size - 1))
    vectors = vectors[:, ::-1]
    if of_rows:
        vectors, _ = np.linalg.qr(matrix.T @ vectors)
    return np.sqrt(np.maximum(power[::-1], 0)), vectors


def _scale_of(left: Array, scale: float | str, names: Array) -> Array:
    n_neurons = left.shape[2]
    if isinstance(scale, str):
        power = np.nanmean(left**2, axis=(0, 1))
        if not power.max() > 1e-12:
            alone = " Its own time course was subtracted, so that nothing is left." if len(left) == 1 else ""
            raise ContractError(
                f"The prepared rates of the training conditions ({len(left)}) do not vary.{alone} A fit needs rates "
                "that vary. Group the trials by more columns (by), or use time_course=False."
            )
        largest = int(power.argmax())
        if scale == "auto" and (n_neurons < MIN_FOR_SHARE or power[largest] <= 0.5 * power.sum()):
            return np.full(n_neurons, np.sqrt(power.mean()))
        if scale == "auto":
            warn(
                f"Neuron {names[largest]} has {power[largest] / power.sum():.0%} of the variance of all {n_neurons} "
                "neurons, so that R² would be its own. Each neuron is scaled by its own standard deviation "
                '(scale="neuron"). Give a number for a common scale.'
            )
        return np.sqrt(np.maximum(power, 1e-4 * power.mean()))
    if scale <= 0:
        raise ContractError(f"scale is {scale:g}. It needs a number above 0, in Hz for a unit of activity.")
    return np.full(n_neurons, float(scale))

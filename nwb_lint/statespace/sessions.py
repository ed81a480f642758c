"""Several sessions of one animal in common coordinates, and how far their dynamics are from those of a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import find_column, held_out_of, recorded_of
from nwb_lint.contract.values import as_text_column
from nwb_lint.drift import has_drift
from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_with_options
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.model.tuning import LEVEL
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.single_trials import AlignOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.statespace.fit import fit_trials_with

Given = xr.Dataset | tuple[xr.Dataset, xr.Dataset]
_OWN = {"rank", "test_size", "test_conditions", "checkpoint"}  # options that every half sets itself
_FEWEST = 4  # trials or conditions: two for each half


class Session(NamedTuple):
    """m of the units of a session, its latents by condition, and its recurrence n' diag(phi') m / N."""

    m: dict[str, Array]
    profiles: dict[str, Array]
    recurrence: Array

    def moved(self, to: Array) -> Session:
        """The session with the latents ``to`` kappa."""
        back = np.linalg.inv(to)
        return Session(
            {unit: m @ back for unit, m in self.m.items()},
            {level: kappa @ to.T for level, kappa in self.profiles.items()},
            to @ self.recurrence @ back,
        )

    def packed(self) -> dict[str, Array]:
        """The session as arrays."""
        return {
            "units": np.array(list(self.m)), "m": np.array(list(self.m.values())),
            "levels": np.array(list(self.profiles)), "profiles": np.array(list(self.profiles.values())),
            "recurrence": self.recurrence,
        }  # fmt: skip

    @classmethod
    def unpacked(cls, found: Mapping[str, Array]) -> Session:
        """A session from its arrays."""
        m = dict(zip(found["units"].tolist(), found["m"], strict=True))
        return cls(m, dict(zip(found["levels"].tolist(), found["profiles"], strict=True)), found["recurrence"])


class Change(NamedTuple):
    """What differs from the reference: the recurrence, and the latents of shared conditions, each flat."""

    recurrence: Array
    latents: Array


@validated(AlignOptions)
def align_fits(
    fits: Mapping[str, Given],
    *,
    by: str = "units",
    column: str | None = None,
    reference: str | None = None,
    splits: int = 8,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Fits of several sessions in the coordinates of one of them, and how far their dynamics are from its dynamics.

    kappa of session s becomes T_s kappa. Of shared units, T_s is the least-squares solution of m_s = m_ref T_s over the
    units with the same label. Of dynamics, it is that of kappa_ref = T_s kappa_s over the same conditions and times.
    The recurrence S = n' diag(mean of phi') m / N is the matrix that kappa drives itself with, linearized and averaged
    over the states of the session. The distance is the Frobenius norm of the change T_s S_s T_s⁻¹ - S_ref. That of the
    latents is the root mean square, over the conditions that both have and time, of the change of their means.

    A distance contains the errors of the fits, so that it is above 0 also where nothing changed. With the data beside
    each fit, these errors are measured: the trials of a session are split into halves at random, both are fitted, and
    half of the difference of their changes is an error of the change, as the fit to all trials has it. With C, the
    covariance of the errors of a session and of those of the reference together, and D the distance,

    - ``p_value`` is that of D² / tr C, which has an F distribution if the sessions have the same network;
    - the corrected distance is the root of D² - tr C, and its interval of 90 % follows from the variance of D².

    Parameters
    ----------
    fits : mapping of str to xarray.Dataset, or to a pair of them
        Fits of the same rank, from `fit_trials` or `fit_lint`, by the name of the session; or ``(fit, data)`` with the
        trials, or the activity, that it was fitted to.
    by : {"units", "dynamics"}, default="units"
        What sessions are aligned by: m of units that they share, or latents of the same conditions.
    column : str or None, default=None
        Trial column whose values are the conditions. With ``by="dynamics"``, fits of single trials need it. None: the
        labels of the conditions; single trials then have no distance of latents.
    reference : str or None, default=None
        Session whose coordinates all get. None: the first.
    splits : int, default=8
        Random splits of the trials of each session into halves that are fitted.
    seed : int, default=0
        Seed of the splits.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Options of the fits to halves that a fit of single trials does not keep, such as ``max_iter`` and ``ridge``.

    Returns
    -------
    xarray.Dataset
        A result of kind "session_alignment", by ``session_name``: ``map (session_name, rank, rank_from)``, T_s;
        ``map_r2``, the share of m of the shared units, or of the reference's latents, that it explains; ``n_shared``,
        units or conditions; ``recurrence (session_name, rank, rank_from)`` in the coordinates of the reference;
        ``distance`` and ``latent_distance``, NaN where there is no shared condition. With data, for both:
        ``…_corrected``, ``…_low``, ``…_high`` and ``…_p_value``; NaN for the reference, for fits without data, for all
        if the reference has none, and for latents of which not every half has a shared condition. All are
        dimensionless. The latents of a session in common coordinates are ``fit["latent"].values @ map.T``.

    Raises
    ------
    ContractError
        If there are fewer than two fits, their ranks differ, m of one drifts, they share fewer units or conditions
        than the rank, or data are not those of their fit: it has other neurons, trials, conditions or bins, or is from
        `refine_free_run`, which halves are not.

    References
    ----------
    Brunner, Dette & Munk, J. Am. Stat. Assoc. 92 (1997): the F distribution of a sum of squares.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = {"day 1": mock_trials(), "day 2": mock_trials(seed=0)}
    >>> fits = {day: fit_trials(one, rank=1, tau_s=0.1, hidden=0, max_iter=3) for day, one in trials.items()}
    >>> align_fits(fits)["map"].dims
    ('session_name', 'rank', 'rank_from')
    """
    alone, data = _parted(fits)
    names = list(alone)
    first = names[0] if reference is None and names else reference
    _check(alone, by, column, first)
    assert first is not None
    sessions = {name: _session(fit, column) for name, fit in alone.items()}
    maps = {name: _map_to(sessions[first], one, by, name) for name, one in sessions.items()}
    aligned = np.stack([sessions[name].moved(maps[name][0]).recurrence for name in names])
    out = xr.Dataset(coords={"session_name": names}, attrs={"kind": "session_alignment", "by": by, "reference": first})
    out["map"] = ("session_name", "rank", "rank_from"), np.stack([maps[name][0] for name in names])
    out["map_r2"] = ("session_name",), [maps[name][1] for name in names]
    out["n_shared"] = ("session_name",), [maps[name][2] for name in names]
    out["recurrence"] = ("session_name", "rank", "rank_from"), aligned
    levels = {name: _shared_levels([sessions[first], sessions[name]]) for name in names}
    changes = [_change(sessions[first], sessions[name], by, name, levels[name]) for name in names]
    for what, prefix in zip(Change._fields, ("", "latent_"), strict=True):
        out[f"{prefix}distance"] = ("session_name",), [_length(getattr(one, what)) for one in changes]
    if first not in data and data:
        warn(f"The reference, {first}, has no data beside its fit. Nothing is tested. Give it (fit, data), as others.")
        out = _with_tests(out, {})
    elif data:
        running = {"executor": executor, "cache_dir": cache_dir, "progress": progress, "label": "halves"}
        halves = _halves(alone, data, column, splits, seed, fit_options, running)
        tested = [name for name in halves if name != first]
        out = _with_tests(out, {name: _errors(sessions, halves, first, name, by) for name in tested})
        out.attrs |= {"splits": splits, "seed": seed, "level": LEVEL}
    check_result(out, "session_alignment")
    return out


def _parted(fits: Mapping[str, Given]) -> tuple[dict[str, xr.Dataset], dict[str, xr.Dataset]]:
    """The fits, and the data of those that have them."""
    if not isinstance(fits, Mapping):
        raise ContractError(f"fits is a {type(fits).__name__}. An alignment needs names. Give {{name: fit}}.")
    alone, data = {}, {}
    for name, one in fits.items():
        pair = one if isinstance(one, tuple) else (one,)
        if not 1 <= len(pair) <= 2 or not all(isinstance(each, xr.Dataset) for each in pair):
            kinds = ", ".join(type(each).__name__ for each in pair)
            raise ContractError(f"Session {name} is {kinds}. It needs Datasets. Give a fit, or (fit, data).")
        alone[name] = pair[0]
        if len(pair) == 2:
            data[name] = pair[1]
    return alone, data


def _check(fits: Mapping[str, xr.Dataset], by: str, column: str | None, first: str | None) -> None:
    if len(fits) < 2:
        raise ContractError(f"fits holds {len(fits)}. An alignment needs two. Give more by name.")
    if first not in fits:
        raise ContractError(f"reference is {first!r}. The sessions are {', '.join(fits)}. Choose one of them.")
    for name, fit in fits.items():
        check_fit(fit)
        if "m" not in fit or fit.sizes["rank"] != next(iter(fits.values())).sizes.get("rank"):
            raise ContractError(f"The fit of {name} has no rank, or another one. Fit all sessions with the same rank.")
        if has_drift(fit):
            raise ContractError(f"m of {name} drifts over trials. Give a network of one trial, from network_of_trial.")
        if by == "dynamics" and column is None and "noise_cov" in fit:
            raise ContractError(f"The conditions of {name} are single trials. Name the column of their conditions.")
        if column is not None and find_column(fit, column, "condition") is None:
            raise ContractError(f"The fit of {name} has no column {column!r} of its conditions. Choose another one.")


def _session(fit: xr.Dataset, column: str | None) -> Session:
    """A session from its fit."""
    kappa, m, n = fit["latent"].values.astype(float), fit["m"].values, fit["n"].values
    phi = nonlinearity_of(fit.attrs["nonlinearity"])
    x = kappa @ m.T + fit["filtered_input"].values @ fit["input_weights"].values.T + fit["bias"].values
    slope = phi.slope(x, phi.phi(x)).mean(axis=(0, 1))
    scale = fit["scale"].values if "scale" in fit else np.ones(len(m))
    labels = fit["neuron"].values.astype(str)
    own = {labels[i]: scale[i] * m[i] for i in np.flatnonzero(recorded_of(fit))}
    if column is not None:
        found = find_column(fit, column, "condition")
    else:  # the labels of single trials are numbers, which are no conditions
        found = None if "noise_cov" in fit else fit["condition"].variable
    levels = as_text_column(found.values).astype(str) if found is not None else np.array([], str)
    profiles = {level: kappa[levels == level].mean(axis=0) for level in np.unique(levels)}
    return Session(own, profiles, n.T @ (slope[:, None] * m) / len(m))


def _map_to(reference: Session, one: Session, by: str, name: str) -> tuple[Array, float, int]:
    """T from the latents of a session to those of the reference, the share it explains, and what is shared."""
    a, b = (reference.m, one.m) if by == "units" else (reference.profiles, one.profiles)
    shared = [key for key in a if key in b and np.shape(a[key]) == np.shape(b[key])]
    rank = len(one.recurrence)
    if len(shared) < rank + (by == "units"):
        raise ContractError(
            f"{name} and the reference share {len(shared)} {'units' if by == 'units' else 'conditions'} of the same "
            f"label. An alignment at rank {rank} needs more. Give sessions that share more, or align them otherwise."
        )
    left, right = (np.concatenate([np.atleast_2d(one[key]) for key in shared]) for one in (a, b))
    if by == "units":  # m_s = m_ref T
        to = np.linalg.lstsq(left, right, rcond=None)[0]
        target, found = right, left @ to
    else:  # kappa_ref = T kappa_s
        to = np.linalg.lstsq(right, left, rcond=None)[0].T
        target, found = left, right @ to.T
    return to, 1 - float(((target - found) ** 2).sum() / (target**2).sum()), len(shared)


def _change(reference: Session, one: Session, by: str, name: str, levels: Sequence[str]) -> Change:
    """What differs between a session, in the coordinates of the reference, and the reference."""
    moved = one.moved(_map_to(reference, one, by, name)[0])
    apart = [moved.profiles[key] - reference.profiles[key] for key in levels]
    size = np.sqrt(max(1, sum(len(each) for each in apart)))
    flat = np.concatenate([each.ravel() for each in apart]) / size if apart else np.zeros(0)
    return Change((moved.recurrence - reference.recurrence).ravel(), flat)


def _shared_levels(sessions: Sequence[Session]) -> list[str]:
    """The conditions that all have, with the same times."""
    first = sessions[0].profiles
    shared = [key for key in first if all(key in other.profiles for other in sessions)]
    return [key for key in shared if all(other.profiles[key].shape == first[key].shape for other in sessions)]


def _length(change: Array) -> float:
    return float(np.linalg.norm(change)) if len(change) else float("nan")


# ---------------------------------------------------------------------------------------------------------------------
# Errors of the changes, from halves of the trials


def _halves(
    fits: Mapping[str, xr.Dataset],
    data: Mapping[str, xr.Dataset],
    column: str | None,
    splits: int,
    seed: int,
    fit_options: Mapping[str, Any],
    running: Mapping[str, Any],
) -> dict[str, list[Session]]:
    """Fits to both halves of every split of each session that has data."""

    def tasks() -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
        for name, one in data.items():
            options, used = _options(name, fits[name], one, fit_options)
            rng = np.random.default_rng([seed, 6])
            found = None if column is None else find_column(fits[name], column, "condition")
            for _ in range(splits):
                order = rng.permutation(used)
                if found is not None:  # both halves have each condition
                    order = order[np.argsort(as_text_column(found.values)[order].astype(str), kind="stable")]
                for half in (order[::2], order[1::2]):
                    yield one, {"options": options, "kept": np.sort(half), "column": column}

    found = [
        Session.unpacked(one) for one in run_all(session_of_half, tasks(), total=2 * splits * len(data), **running)
    ]
    return {name: found[2 * splits * k : 2 * splits * (k + 1)] for k, name in enumerate(data)}


def _options(
    name: str, fit: xr.Dataset, data: xr.Dataset, given: Mapping[str, Any]
) -> tuple[FitOptions | TrialFitOptions, Array]:
    """The options of the fits to halves of a session, and the trials or conditions that the fit has seen."""
    single = "noise_cov" in fit
    dim, other = ("trial", "condition") if single else ("condition", "trial")
    if other in data.dims or data.sizes.get(dim) != fit.sizes["condition"]:
        raise ContractError(
            f"The data of {name} have {dict(data.sizes)}. The fit has {fit.sizes['condition']} {dim}s. Give what was "
            "fitted."
        )
    _check_same(name, fit, data, dim)
    if single and "free_run_loss" in fit.attrs:
        raise ContractError(
            f"The fit of {name} is from refine_free_run. Its halves would not be, and their errors are others. Give "
            "the fit without data."
        )
    if own := sorted(given.keys() & _OWN):
        raise ContractError(f"{own[0]} is {given[own[0]]!r}. Every half here needs its own. Leave {own[0]} out.")
    used = np.flatnonzero(~held_out_of(fit))
    if len(used) < _FEWEST:
        raise ContractError(f"{name} has {len(used)} {dim}s. Halves of them are fitted, and {_FEWEST} are needed.")
    kind = TrialFitOptions if single else FitOptions
    return kind.of_fit(fit, **{**({} if single else {"test_conditions": None}), **given}), used


def _check_same(name: str, fit: xr.Dataset, data: xr.Dataset, dim: str) -> None:
    """Refuse data whose neurons, trials or conditions, or bins are not those of the fit."""
    recorded = fit["neuron"].values[recorded_of(fit)].astype(str)
    bin_s = float(data.attrs.get("bin_s", np.nan))
    labels = [
        ("neurons", recorded, labels_of(data, "neuron")),
        (f"{dim}s", labels_of(fit, "condition"), labels_of(data, dim)),
    ]
    differ = [what for what, mine, theirs in labels if not np.array_equal(mine, theirs)]
    if not np.isclose(bin_s, fit.attrs["dt_s"], rtol=1e-6):
        differ.append(f"bins ({bin_s:g} s, and {fit.attrs['dt_s']:g} s in the fit)")
    if differ:
        raise ContractError(f"The data of {name} have other {differ[0]} than the fit. Give what was fitted.")


def labels_of(dataset: xr.Dataset, dim: str) -> Array:
    """The labels along a dim as text; numbers where there are none."""
    values: Array = dataset[dim].values if dim in dataset.coords else np.arange(dataset.sizes[dim])
    return values.astype(str)


def session_of_half(
    data: xr.Dataset, *, options: FitOptions | TrialFitOptions, kept: Array, column: str | None
) -> dict[str, Array]:
    """The session of a fit to some trials or conditions, as arrays; a task of `align_fits`."""
    if isinstance(options, TrialFitOptions):
        some = data.isel(trial=kept)
        fit = fit_trials_with(some, options, np.zeros(len(kept), bool), scored=False)
    else:
        fit = fit_with_options(data.isel(condition=kept), options)
    return _session(fit, column).packed()


class Tested(NamedTuple):
    """The change of a session, and its errors (split): those of the session, and those of the reference."""

    change: Change
    own: list[Change]
    of_reference: list[Change]


def _errors(
    sessions: Mapping[str, Session], halves: Mapping[str, list[Session]], first: str, name: str, by: str
) -> Tested:
    """The change of a session with its errors, over the conditions that all halves have."""
    levels = _shared_levels([sessions[first], sessions[name], *halves[first], *halves[name]])
    moved = [one.moved(_map_to(sessions[first], one, by, first)[0]) for one in halves[first]]
    own = [_change(sessions[first], one, by, name, levels) for one in halves[name]]
    of_reference = [_change(one, sessions[name], by, name, levels) for one in moved]
    change = _change(sessions[first], sessions[name], by, name, levels)
    return Tested(change, *(list(map(_half_of, one[::2], one[1::2])) for one in (own, of_reference)))


def _half_of(a: Change, b: Change) -> Change:
    return Change((a.recurrence - b.recurrence) / 2, (a.latents - b.latents) / 2)


def _with_tests(out: xr.Dataset, tested: Mapping[str, Tested]) -> xr.Dataset:
    """The result with the corrected distance, its interval and the p value of every session that has errors."""
    for what, prefix in zip(Change._fields, ("", "latent_"), strict=True):
        columns = np.full((out.sizes["session_name"], 4), np.nan)
        for k, name in enumerate(out["session_name"].values.tolist()):
            if name in tested:
                change, *errors = tested[name]
                columns[k] = corrected(getattr(change, what), *([getattr(one, what) for one in own] for own in errors))
        for end, values in zip(("corrected", "low", "high", "p_value"), columns.T, strict=True):
            out[f"{prefix}distance_{end}"] = ("session_name",), values
    return out


def corrected(change: Array, *errors: Sequence[Array]) -> tuple[float, float, float, float]:
    """The length of a change without that of its errors, the bounds of its interval, and p of no change.

    With C the sum of the covariances of the groups of errors, and L the squared length of the true change, D² =
    |change|² has the mean L + tr C and the variance 2 tr C² + 4 c L, where c is the variance of the errors along the
    change. The interval holds every L for which D² is not farther from its mean than the normal distribution allows.
    Without a change, D² / tr C has an F distribution with tr(C)² / tr(C²) degrees of freedom, and those of the estimate
    of tr C.

    Parameters
    ----------
    change : array of shape (any)
        The change that was found.
    *errors : sequence of array of shape (any)
        Independent errors of it, of each of the groups that add up.

    Returns
    -------
    corrected, low, high, p : float
        NaN where the change has no entries.
    """
    groups = [np.array(one) for one in errors]
    if not len(change):
        return (float("nan"),) * 4
    trace = sum((one**2).sum() / len(one) for one in groups)
    squares = [_square(one @ one.T) for one in groups]
    between = [((a @ b.T) ** 2).mean() for k, a in enumerate(groups) for b in groups[k + 1 :]]
    both = sum(squares) + 2 * sum(between)
    of_trace = 2 * sum(square / len(one) for square, one in zip(squares, groups, strict=True))
    apart = float(change @ change)
    p = stats.f.sf(apart / trace, trace**2 / both, 2 * trace**2 / of_trace)
    along = sum(((one @ change) ** 2).mean() for one in groups) / max(apart, np.finfo(float).tiny)
    z, middle = stats.norm.ppf(0.5 + LEVEL / 2) ** 2, max(apart - trace, 0.0)
    width = np.sqrt(z * (2 * both + of_trace) + 4 * along * z * (middle + along * z))
    ends = middle + 2 * along * z + np.array([-width, width])
    low, high = np.sqrt(np.maximum(ends, 0))
    return float(np.sqrt(middle)), float(low), float(high), float(p)


def _square(products: Array) -> float:
    """tr C² from the products of errors: the mean of the squares of those of different errors."""
    apart = products[~np.eye(len(products), dtype=bool)]
    return float((apart**2).mean())

"""Ensembles: the same fit with other seeds, splits, trial halves or ridges, and how far their connectivities agree."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_result, refuse_trials
from nwb_lint.contract.columns import coords_along, held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of, effective_n_of
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array
from nwb_lint.model.scores import by_split, noise_of, squared_errors
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import EnsembleOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import SPLITS, Prepare, fit_with, folds_of, shared_options

LEFT_OUT = np.exp(-1)  # the share of conditions that a bootstrap sample does not contain


class Member(NamedTuple):
    """What makes one member: conditions held out, half of the trials (-1: both), seed, ridge (NaN: chosen)."""

    held_out: Array
    half: int = -1
    seed: int = 0
    ridge: float = np.nan


@validated(EnsembleOptions)
def ensemble(
    activity: xr.Dataset | Prepare,
    *,
    rank: int,
    tau_s: float,
    vary: str = "fold",
    members: int = 10,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Fit several times, and compare the effective connectivities J_eff = m (P n)' / N of the members.

    ============  ==================================================================================================
    ``vary``      member k
    ============  ==================================================================================================
    "fold"        holds out the k-th of ``members`` parts of the conditions
    "subsample"   sees a random 63 % of the conditions, the share of different ones in a bootstrap sample. They are
                  drawn without repeats: a repeated condition would be on both sides of the inner splits
    "half"        sees half k mod 2 of the trials, and holds out part k div 2 of ⌈members / 2⌉; scored on all trials
    "seed"        has another seed: inner splits, random starts, hidden units
    "ridge"       has ridge k of ``ridges`` instead of a choice among them; a quarter of the conditions is held out
    ============  ==================================================================================================

    Agreement is between the recorded neurons, over the entries of J_eff. It is computed from the factors, without any
    N × N matrix. spread_post_i = [Σ_j var(J_ij) / Σ_j mean(J_ij)²]^½ over members for row i, spread_pre_j for column j.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        As in `select_rank`. Conditions that its preparation held out are held out of every member.
    rank : int
        Rank of the members.
    tau_s : float
        Time constant of the units, s.
    vary : {"fold", "subsample", "half", "seed", "ridge"}, default="fold"
        What differs between the members; see the table.
    members : int, default=10
        Number of members; "ridge" has as many as there are ``ridges``.
    seed : int, default=0
        Seed of the first member.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`.

    Returns
    -------
    xarray.Dataset
        A result of kind "ensemble": ``pearson`` and ``cosine`` (member, member_from); ``spread_post`` and
        ``spread_pre`` (neuron), relative; ``r2`` and ``r2_ceiling`` (member, split); ``m`` and ``n_effective``
        (member, neuron, rank), where J_eff of a member is m n_effective' / ``attrs["n_neurons"]``; ``as_good``
        (member): with "ridge", held-out errors at most one standard error, paired over conditions, above those of the
        best member, otherwise always True; coordinates ``half``, ``seed`` and ``ridge`` (member). Spreads, and the
        mean agreements ``attrs["pearson"]`` and ``attrs["cosine"]``, are over members that are as good.

    Raises
    ------
    ContractError
        If there are fewer than 2 members, more parts than conditions, or no trial halves, or an option is wrong.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> agreement = ensemble(mock_activity(), rank=1, tau_s=0.1, members=3, method="regression")
    >>> bool(agreement.attrs["pearson"] > 0.9)
    True
    """
    refuse_trials(activity, "read_conditions(...) and prepare(...)")
    whole = activity if isinstance(activity, xr.Dataset) else activity(None)
    if not isinstance(rank, Integral):
        raise ContractError(f"rank is {rank!r}. Members are compared by m and n. Use a whole number from 1 on.")
    options = shared_options(fit_options, rank=rank, tau_s=tau_s)
    found_members = _members(whole, vary, members, seed, tuple(sorted(options.ridges)))
    found = run_all(
        fit_member,
        _tasks(activity, found_members, options),
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        label="ensemble",
        total=len(found_members),
    )
    scores = {name: np.stack([one[name] for one in found]) for name in found[0]}
    good = np.ones(len(found), bool)
    if vary == "ridge":
        good = as_good(scores["error"][:, found_members[0].held_out])
    out = _table(whole, found_members, scores, good)
    out.attrs |= {"vary": vary, "tau_s": float(tau_s)}
    check_result(out, "ensemble")
    return out


def _table(whole: xr.Dataset, members: list[Member], scores: dict[str, Array], good: Array) -> xr.Dataset:
    """The result, from what `fit_member` gives of all members and which of them are as good as the best."""
    m, p, n_neurons = scores["m"], scores["n_effective"], int(scores["n_neurons"][0])
    out = xr.Dataset(coords=coords_along(whole, "neuron", kind="ensemble")).assign_coords(split=SPLITS)
    for name in ("half", "seed", "ridge"):
        out = out.assign_coords({name: ("member", [getattr(one, name) for one in members])})
    out.attrs = {"kind": "ensemble", "n_neurons": n_neurons}
    pairs = np.triu(good[:, None] & good, 1)
    for name, values in zip(("pearson", "cosine"), agreement(m, p, n_neurons), strict=True):
        out[name] = ("member", "member_from"), values
        out.attrs[name] = float(values[pairs].mean()) if pairs.any() else float("nan")
    out["as_good"] = ("member",), good
    out["spread_post"], out["spread_pre"] = ("neuron", _spread(m[good], p[good])), ("neuron", _spread(p[good], m[good]))
    for name in ("r2", "r2_ceiling"):
        out[name] = ("member", "split"), scores[name]
    for name in ("m", "n_effective"):
        out[name] = ("member", "neuron", "rank"), scores[name]
    return out


def _members(whole: xr.Dataset, vary: str, members: int, seed: int, ridges: tuple[float, ...]) -> list[Member]:
    number = len(ridges) if vary == "ridge" else members
    if number < 2:
        raise ContractError(f"The ensemble has {number} member. Agreement is between members. Use at least 2.")
    if vary == "half" and "activity_half" not in whole:
        raise ContractError(
            "The activity has no trial halves. vary='half' needs them. Use read_conditions(..., halves=True)."
        )
    outer = held_out_of(whole)
    inside = np.flatnonzero(~outer)

    def with_outer(own: Array) -> Array:
        held_out = outer.copy()
        held_out[inside[own]] = True
        return held_out

    if vary == "seed":
        return [Member(outer, seed=seed + k) for k in range(number)]
    if vary == "ridge":
        held_out = outer if outer.any() else with_outer(folds_of(len(inside), 4, first=seed)[0])
        return [Member(held_out, seed=seed, ridge=float(ridge)) for ridge in ridges]
    if vary == "subsample":
        n_left = round(LEFT_OUT * len(inside))
        drawn = [np.random.default_rng([seed + k, 3]).permutation(len(inside)) < n_left for k in range(number)]
        return [Member(with_outer(own), seed=seed + k) for k, own in enumerate(drawn)]
    parts = -(-number // 2) if vary == "half" else number
    if not 2 <= parts <= len(inside):
        raise ContractError(
            f"members is {number}. With vary={vary!r} they hold out {parts} parts in turn, and there are {len(inside)} "
            f"conditions. Use 2 to {len(inside)} parts."
        )
    held = [with_outer(own) for own in folds_of(len(inside), parts, first=seed)]
    if vary == "half":
        return [Member(held[k // 2], half=k % 2, seed=seed + k) for k in range(number)]
    return [Member(held_out, seed=seed + k) for k, held_out in enumerate(held)]


def _tasks(
    activity: xr.Dataset | Prepare, members: list[Member], options: FitOptions
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    for one in members:
        changes = {"seed": one.seed} | ({} if np.isnan(one.ridge) else {"ridges": (one.ridge,)})
        own = {"options": options.model_copy(update=changes), "held_out": one.held_out, "half": one.half}
        if isinstance(activity, xr.Dataset):
            yield activity, own
        else:
            yield activity(~one.held_out if one.held_out.any() else None), own


def fit_member(data: xr.Dataset, *, options: FitOptions, held_out: Array, half: int) -> dict[str, Array]:
    """One member: its factors on the recorded neurons; R², ceiling and errors on all trials."""
    seen = data = unmasked(data)
    if half >= 0:
        seen = data.drop_vars(["activity_half", "n_trials_half"], errors="ignore")
        seen["activity"] = data["activity"].dims, data["activity_half"].values[half]
    fit = fit_with(seen, options, test_conditions=held_out)
    y, prediction, recorded = data["activity"].values, fit["activity_pred"].values, data.sizes["neuron"]
    r2, ceiling, _ = by_split(y, prediction, held_out, noise_of(data))
    m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
    return {
        "m": m[:recorded],
        "n_effective": effective_n_of(blocks_of(fit), m, n, weights)[:recorded],
        "n_neurons": np.array(len(m)),
        "r2": r2,
        "r2_ceiling": ceiling,
        "error": squared_errors(y, prediction[..., :recorded]),
    }


def agreement(m: Array, p: Array, n_neurons: int) -> tuple[Array, Array]:
    """Pearson and cosine (member, member) between the entries of J_k = m_k p_k' / N, from the factors alone.

    <J_a, J_b> = Σ_rs (m_ar' m_bs) (p_ar' p_bs) / N²; the sum of the entries of J_a is Σ_r (1' m_ar) (p_ar' 1) / N.
    """
    overlaps = [np.einsum("anr,bns->abrs", side, side, optimize=True) for side in (m, p)]
    inner = (overlaps[0] * overlaps[1]).sum(axis=(2, 3)) / n_neurons**2
    total = np.einsum("ar,ar->a", m.sum(axis=1), p.sum(axis=1)) / n_neurons
    entries = m.shape[1] ** 2
    centered = inner - np.outer(total, total) / entries
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson, cosine = (c / np.sqrt(np.outer(np.diag(c), np.diag(c))) for c in (centered, inner))
    return pearson, cosine


def _spread(left: Array, right: Array) -> Array:
    """Standard deviation of a row of left_k right_k' over members k, relative to the mean row, (neuron)."""
    n_members = len(left)
    if n_members < 2:
        return np.full(left.shape[1], np.nan)
    each = np.einsum("kir,krs,kis->i", left, np.einsum("kjr,kjs->krs", right, right), left) / n_members
    wide_left = left.transpose(1, 0, 2).reshape(left.shape[1], -1)
    wide_right = right.transpose(1, 0, 2).reshape(right.shape[1], -1)
    mean = np.einsum("ia,ab,ib->i", wide_left, wide_right.T @ wide_right, wide_left) / n_members**2
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(each - mean, 0) * n_members / (n_members - 1)
        return np.sqrt(variance / mean)


def as_good(errors: Array) -> Array:
    """Boolean (member): held-out errors (member, condition) at most one paired standard error above the best one's."""
    best = int(np.argmin(errors.mean(axis=1)))
    above = errors - errors[best]
    if errors.shape[1] < 2:
        return above.mean(axis=1) <= 0
    return above.mean(axis=1) <= above.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])

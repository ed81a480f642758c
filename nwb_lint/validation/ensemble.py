"""Ensembles: the same fit over seeds, splits, trial halves or ridges, and how far their connectivities agree."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract import check_result, coords_along, held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Array, effective_n
from nwb_lint.model.regression import RIDGES
from nwb_lint.model.scores import by_split, halves_of, squared_errors
from nwb_lint.options import EnsembleOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.rank import SPLITS, Prepare, folds_of

VARY = ("fold", "subsample", "half", "seed", "ridge")
DRAWN = 1 - np.exp(-1)  # the share of different conditions in a bootstrap sample


class _Member(NamedTuple):
    """What makes one member: conditions held out, half of the trials (or both: -1), seed, ridge (NaN = chosen)."""

    held: Array
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
    "subsample"   sees a random 63 % of the conditions (the share of different ones in a bootstrap sample; drawn
                  without repeats, since a repeated condition would stand on both sides of the inner splits)
    "half"        sees half k mod 2 of the trials, and holds out the part k div 2 of ⌈members / 2⌉; scored on all trials
    "seed"        differs in its seed alone: inner splits, random starts, hidden units
    "ridge"       has ridge k of ``ridges`` instead of a choice among them; a quarter of the conditions is held out
    ============  ==================================================================================================

    Agreement is between the recorded neurons, over the entries of J_eff, and comes from the factors: no N × N matrix
    is made. spread_post_i = [Σ_j var(J_ij) / Σ_j mean(J_ij)²]^½ over members, for row i; spread_pre_j for column j.

    Args:
        activity: as in `select_rank`; conditions that its preparation held out are held out of every member.
        rank: R ≥ 1. tau_s and ``fit_options``: passed to `fit_lint`.
        members: how many (not of "ridge", which has as many as there are ``ridges``). seed: of the first.
        executor, cache_dir, progress: see `nwb_lint.parallel`.

    Returns: a result of kind "ensemble": pearson, cosine (member, member_from); spread_post, spread_pre (neuron),
        relative; r2, r2_ceiling (member, split); m, n_effective (member, neuron, rank), J_eff of a member being m
        n_effective' / attrs["n_neurons"]; as_good (member): held-out errors no more than one standard error (paired
        over conditions) above the best member's, for "ridge", else always True; coordinates half, seed, ridge (member).
        The spreads are over members that are as good; attrs["pearson"] and attrs["cosine"] are their mean agreement.

    Raises: ContractError for fewer than 2 members, no trial halves, an unknown ``vary``, or what `fit_lint` refuses.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> agreement = ensemble(mock_activity(), rank=1, tau_s=0.1, members=3, method="regression")
        >>> bool(agreement.attrs["pearson"] > 0.9)
        True
    """
    whole = activity if isinstance(activity, xr.Dataset) else activity(None)
    people = _members(whole, rank, vary, members, seed, tuple(sorted(fit_options.get("ridges", RIDGES))))
    tasks = _tasks(activity, people, rank, fit_options | {"tau_s": tau_s})
    total = len(people)
    found = run_all(
        member_cell, tasks, executor=executor, cache_dir=cache_dir, progress=progress, label="ensemble", total=total
    )
    m, p = np.stack([one["m"] for one in found]), np.stack([one["n_effective"] for one in found])
    n_neurons = int(found[0]["n_neurons"])
    good = np.ones(len(people), bool)
    if vary == "ridge":
        good = _as_good(np.stack([one["error"] for one in found])[:, people[0].held])
    pearson, cosine = agreement(m, p, n_neurons)
    out = xr.Dataset(coords=coords_along(whole, "neuron")).assign_coords(split=SPLITS)
    out = out.assign_coords(
        half=("member", [one.half for one in people]),
        seed=("member", [one.seed for one in people]),
        ridge=("member", [one.ridge for one in people]),
    )
    out["pearson"], out["cosine"] = (("member", "member_from"), pearson), (("member", "member_from"), cosine)
    out["as_good"] = ("member",), good
    out["spread_post"] = ("neuron",), _spread(m[good], p[good])
    out["spread_pre"] = ("neuron",), _spread(p[good], m[good])
    for name in ("r2", "r2_ceiling"):
        out[name] = ("member", "split"), np.stack([one[name] for one in found])
    out["m"], out["n_effective"] = (("member", "neuron", "rank"), m), (("member", "neuron", "rank"), p)
    pairs = np.triu(good[:, None] & good, 1)
    out.attrs = {"kind": "ensemble", "vary": vary, "n_neurons": n_neurons, "tau_s": float(tau_s)}
    out.attrs |= {
        name: float(out[name].values[pairs].mean()) if pairs.any() else float("nan") for name in ("pearson", "cosine")
    }
    check_result(out, "ensemble")
    return out


def _members(whole: xr.Dataset, rank: object, vary: str, members: int, seed: int, ridges: tuple) -> list[_Member]:
    if vary not in VARY:
        raise ContractError(f"vary is {vary!r}; it needs to be one of {', '.join(map(repr, VARY))}.")
    if not isinstance(rank, Integral) or rank < 1:
        raise ContractError(f"rank is {rank!r}; members are compared by m and n, so it needs a whole number from 1 on.")
    number = len(ridges) if vary == "ridge" else members
    if not isinstance(number, Integral) or number < 2:
        raise ContractError(f"an ensemble of {number} was asked for; it needs at least 2 members.")
    if vary == "half" and "activity_half" not in whole:
        raise ContractError(
            "the activity has no trial halves; read_conditions(..., halves=True), or another way than vary='half'."
        )
    outer = held_out_of(whole)
    inside = np.flatnonzero(~outer)

    def with_(own: Array) -> Array:
        held = outer.copy()
        held[inside[own]] = True
        return held

    parts = -(-members // 2) if vary == "half" else number
    if vary in ("fold", "half") and not 2 <= parts <= len(inside):
        raise ContractError(
            f"{members} members over {vary!r} need 2–{len(inside)} parts of the {len(inside)} conditions; they would "
            f"be {parts}."
        )
    if vary == "seed":
        return [_Member(outer, seed=seed + k) for k in range(number)]
    if vary == "ridge":
        held = outer if outer.any() else with_(folds_of(len(inside), 4, 1, first=seed)[0])
        return [_Member(held, seed=seed, ridge=float(ridge)) for ridge in ridges]
    if vary == "subsample":
        left_out = round((1 - DRAWN) * len(inside))
        drawn = [np.random.default_rng([seed + k, 3]).permutation(len(inside)) < left_out for k in range(number)]
        return [_Member(with_(own), seed=seed + k) for k, own in enumerate(drawn)]
    folds = [with_(own) for own in folds_of(len(inside), parts, 1, first=seed)]
    if vary == "half":
        return [_Member(folds[k // 2], half=k % 2, seed=seed + k) for k in range(number)]
    return [_Member(held, seed=seed + k) for k, held in enumerate(folds)]


def _tasks(
    activity: xr.Dataset | Prepare, people: list[_Member], rank: int, options: dict
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Member by member."""
    for one in people:
        own = options | {"seed": one.seed} | ({} if np.isnan(one.ridge) else {"ridges": (one.ridge,)})
        cell = {"held": one.held, "half": one.half, "rank": rank, "options": own}
        if isinstance(activity, xr.Dataset):
            yield activity, cell
        else:
            yield activity(~one.held if one.held.any() else None), cell


def member_cell(data: xr.Dataset, *, held: Array, half: int, rank: int, options: dict) -> dict[str, Array]:
    """One member: its factors on the recorded neurons, R², ceiling and errors against all trials."""
    seen = data = unmasked(data)
    if half >= 0:
        seen = data.drop_vars(["activity_half", "n_trials_half"], errors="ignore")
        seen["activity"] = data["activity"].dims, data["activity_half"].values[half]
    fit = fit_lint(seen, rank=rank, test_conditions=held, **options)
    y, prediction, recorded = data["activity"].values, fit["activity_pred"].values, data.sizes["neuron"]
    r2, top, _ = by_split(y, prediction, held, *halves_of(data))
    m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
    return {
        "m": m[:recorded],
        "n_effective": effective_n(m, n, weights)[:recorded],
        "n_neurons": np.array(len(m)),
        "r2": r2,
        "r2_ceiling": top,
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
    number = len(left)
    if number < 2:
        return np.full(left.shape[1], np.nan)
    each = np.einsum("kir,krs,kis->i", left, np.einsum("kjr,kjs->krs", right, right), left) / number
    wide_left = left.transpose(1, 0, 2).reshape(left.shape[1], -1)
    wide_right = right.transpose(1, 0, 2).reshape(right.shape[1], -1)
    mean = np.einsum("ia,ab,ib->i", wide_left, wide_right.T @ wide_right, wide_left) / number**2
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(each - mean, 0) * number / (number - 1)
        return np.sqrt(variance / mean)


def _as_good(errors: Array) -> Array:
    """Boolean (member): held-out errors (member, condition) at most one paired standard error above the best one's."""
    best = int(np.argmin(errors.mean(axis=1)))
    above = errors - errors[best]
    if errors.shape[1] < 2:
        return above.mean(axis=1) <= 0
    return above.mean(axis=1) <= above.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])

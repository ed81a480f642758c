"""Two fits side by side: scores, connectivity, latents, fixed points, and what was done differently."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from scipy.linalg import subspace_angles
from scipy.spatial import procrustes

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.analysis.fixedpoints import fixed_points
from nwb_lint.analysis.score import score
from nwb_lint.analysis.support import STABILITIES
from nwb_lint.contract.checks import check_fit
from nwb_lint.contract.columns import recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.options.checks import validated
from nwb_lint.options.reports import CompareOptions
from nwb_lint.reports.items import Item, Table, number
from nwb_lint.reports.scores import R2
from nwb_lint.validation.dynamics_comparison import dsa_distance, dsa_package

_NAMES = ("first", "second")
_OPTIONS = (
    "tau_s", "dt_s", "nonlinearity", "method", "loss", "hidden", "initial", "ridge", "seed", "observation", "link",
    "align", "window_s", "bin_s", "smooth_s", "where", "by", "scale", "version_nwb_lint",
)  # fmt: skip
_EXPLAINED = [
    "Pearson and cosine: 1 is the same, 0 nothing in common; the connectivity is compared by its part that moves the "
    "network, over all pairs of shared neurons. Procrustes disparity: the share of the latents that differs after the "
    "best shift, scale and rotation; 0 is the same, 1 nothing in common. Principal angles: between the directions of "
    "activity that the latents drive; 0 is the same, 90 nothing in common.",
]
_DSA = (
    "DSA: how far apart the linear modes of both latents are, as eigenvalues for one step; 0 is the same. In "
    "simulations it was at most 0.0001 between runs of one network from other starts, and 0.0003 to 0.01 between "
    "different networks."
)


@validated(CompareOptions)
def compare(fit: xr.Dataset, other: xr.Dataset, *, activity: xr.Dataset | None = None, dsa: bool = False) -> xr.Dataset:
    """Compare two fits that share neurons: is it the same network?

    Neurons and conditions are matched by label. What the fits do not share is left out.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, `fit_trials` or `read_fit`.
    other : xarray.Dataset
        The fit to compare with.
    activity : xarray.Dataset or None, default=None
        From `prepare`, with the inputs of both: both fits are scored on it. None compares the scores that the fits
        keep, which may be of different data.
    dsa : bool, default=False
        Compare how the latents run, by dynamical similarity analysis. It needs the package DSA: ``pip install
        "nwb_lint[dsa]"``.

    Returns
    -------
    xarray.Dataset
        Kind "comparison", dimensionless unless said otherwise:

        - ``r2 (fit, split)`` that each fit keeps; ``r2_activity (fit)`` and ``r2_ceiling``, with an activity.
        - ``pearson`` and ``cosine`` between the entries of the effective connectivities of the shared neurons.
        - ``angle_deg (angle)``, degrees: principal angles between the spaces that the columns of m span.
        - ``pearson_prediction`` between the activities that both predict for shared conditions, times and neurons.
        - ``latent_disparity``, 0 to 1: what remains between the latents of shared conditions after the best shift,
          scale and rotation (Procrustes analysis); 0 is the same.
        - ``dsa``, if it is wanted: how far the linear modes of these latents are apart, the mean squared distance of
          their eigenvalues for one step, matched by optimal transport; 0 is the same. It compares the course of the
          latents in time with their inputs, and not where they are. Values are comparable for the same steps only.
        - ``n_found (fit, stability_kind)``: fixed points without input.

        What cannot be compared is NaN. Attributes: ``n_neurons``, ``n_conditions`` that are shared, and
        ``differences``, options with both values.

    Raises
    ------
    ContractError
        If one is not a fit, the fits share no neuron, or ``dsa`` is wanted and DSA is not installed.

    References
    ----------
    Björck & Golub, Mathematics of Computation 1973 (principal angles).
    Gower, Psychometrika 1975 (Procrustes analysis).
    Ostrow, Eisen, Kozachkov & Fiete, NeurIPS 2023 (dynamical similarity analysis).

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> found = compare(mock_fit(), mock_fit())
    >>> round(float(found["pearson"]), 3), round(float(found["latent_disparity"]), 3)
    (1.0, 0.0)
    """
    pair = (fit, other)
    similarity = dsa_package() if dsa else None
    for one in pair:
        check_fit(one)
    neurons = _shared(pair, "neuron", [recorded_of(one) for one in pair])
    if not len(neurons[0]):
        raise ContractError("The fits share no recorded neuron. They need some. Give two fits to the same recording.")
    conditions = _shared(pair, "condition")
    splits = [str(split) for split in fit["split"].values]
    out = xr.Dataset(coords={"fit": list(_NAMES), "split": splits, "stability_kind": list(STABILITIES)})
    out["r2"] = ("fit", "split"), [one["r2"].reindex(split=splits).values for one in pair]
    if activity is not None:
        scored = [score(one, activity) for one in pair]
        out["r2_activity"] = ("fit",), [float(one["r2"]) for one in scored]
        out["r2_ceiling"] = float(scored[0]["r2_ceiling"])
    out["pearson"], out["cosine"] = _agreement(pair, neurons)
    out["angle_deg"] = ("angle",), _angles(pair, neurons)
    out["pearson_prediction"] = _prediction(pair, neurons, conditions)
    latents = _latents(pair, conditions)
    out["latent_disparity"] = _disparity(latents)
    if similarity is not None:
        out["dsa"] = dsa_distance(similarity, latents)
    out["n_found"] = ("fit", "stability_kind"), [_counts(one) for one in pair]
    out.attrs = {"kind": "comparison", "n_neurons": len(neurons[0]), "n_conditions": len(conditions[0])}
    out.attrs["differences"] = [f"{name}: {first} | {second}" for name, first, second in _differences(pair)]
    return out


def of_comparison(found: xr.Dataset) -> list[Item]:
    """A comparison as tables."""
    scores = [[str(split), *map(number, found["r2"].values[:, k])] for k, split in enumerate(found["split"].values)]
    if "r2_activity" in found:
        scores.append(["the given activity", *map(number, found["r2_activity"].values)])
        scores.append(["its ceiling", number(float(found["r2_ceiling"])), ""])
    measured = {
        "effective connectivity: Pearson": "pearson",
        "effective connectivity: cosine": "cosine",
        "predicted activity: Pearson": "pearson_prediction",
        "latents: Procrustes disparity": "latent_disparity",
    }
    same = [[words, number(float(found[name]))] for words, name in measured.items()]
    angles = ", ".join(number(angle, 1) for angle in found["angle_deg"].values)
    same.append(["space of m: principal angles, degrees", angles or "-"])
    if "dsa" in found:
        same.append(["latents: dynamical similarity analysis (DSA)", number(float(found["dsa"]), 5)])
    counted = zip(found["stability_kind"].values, found["n_found"].values.T, strict=True)
    points = [[str(kind), *(str(n) if n >= 0 else "-" for n in numbers)] for kind, numbers in counted]
    differences = (text.partition(": ") for text in found.attrs["differences"])
    rows = [[name, *values.split(" | ", 1)] for name, _, values in differences]
    return [
        f"The fits share {found.attrs['n_neurons']} neurons and {found.attrs['n_conditions']} conditions.",
        Table("R² (of the data of each fit)", ["", *_NAMES], scores, [R2]),
        Table("is it the same network?", ["", ""], same, [*_EXPLAINED, *([_DSA] if "dsa" in found else [])]),
        Table("fixed points without input", ["", *_NAMES], points, ["How many of each kind there are."]),
        Table("what was done differently", ["option", *_NAMES], rows) if rows else "All options are the same.",
    ]


def _shared(pair: tuple[xr.Dataset, ...], dim: str, among: list[np.ndarray] | None = None) -> tuple[np.ndarray, ...]:
    """Positions of the shared labels in both fits."""
    labels = [one[dim].values.astype(str) if dim in one.coords else np.array([], str) for one in pair]
    if among is not None:
        labels = [np.where(some, values, f"\0{k}") for k, (values, some) in enumerate(zip(labels, among, strict=True))]
    _, first, second = np.intersect1d(labels[0], labels[1], return_indices=True)
    order = np.argsort(first)
    return first[order], second[order]


def _agreement(pair: tuple[xr.Dataset, ...], neurons: tuple[np.ndarray, ...]) -> tuple[float, float]:
    a, b = (
        connectivity(one)["connectivity"].values[np.ix_(some, some)].ravel()
        for one, some in zip(pair, neurons, strict=True)
    )
    return _correlation(a - a.mean(), b - b.mean()), _correlation(a, b)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size > 0 else float("nan")


def _angles(pair: tuple[xr.Dataset, ...], neurons: tuple[np.ndarray, ...]) -> np.ndarray:
    if any("m" not in one for one in pair):
        return np.array([])
    a, b = (one["m"].values[some] for one, some in zip(pair, neurons, strict=True))
    return np.sort(np.degrees(subspace_angles(a, b)))


def _prediction(pair, neurons, conditions) -> float:
    if any("activity_pred" not in one for one in pair):
        return float("nan")
    times = _shared_times(pair)
    a, b = (
        one["activity_pred"].transpose("condition", "time", "neuron").values[np.ix_(which, when, some)].ravel()
        for one, which, when, some in zip(pair, conditions, times, neurons, strict=True)
    )
    a, b = a.astype(float), b.astype(float)
    return _correlation(a - a.mean(), b - b.mean()) if a.size else float("nan")


def _shared_times(pair: tuple[xr.Dataset, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the times that both fits have, within a thousandth of a step."""
    step = min(float(one.attrs["dt_s"]) for one in pair) / 1000
    a, b = (np.round(one["time"].values / step).astype(np.int64) for one in pair)
    _, first, second = np.intersect1d(a, b, return_indices=True)
    return first, second


def _latents(pair: tuple[xr.Dataset, ...], conditions: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Latents of shared conditions and times (condition, time, axis); no item if a fit has none, or they are constant.

    The axes are orthonormal in the space of the neurons, so that gauges differ by a rotation. A fit of smaller rank has
    axes of zeros at the end.
    """
    if any("latent" not in one for one in pair):
        return []
    times, most = _shared_times(pair), max(one.sizes["rank"] for one in pair)
    found = []
    for one, which, when in zip(pair, conditions, times, strict=True):
        latent = one["latent"].transpose("condition", "time", "rank").values[np.ix_(which, when)]
        latent = latent.astype(float) @ np.linalg.qr(one["m"].values)[1].T
        found.append(np.pad(latent, ((0, 0), (0, 0), (0, most - latent.shape[2]))))
    varied = all(one.size and np.ptp(one, axis=(0, 1)).max() > 0 for one in found)
    return found if varied else []


def _disparity(latents: list[np.ndarray]) -> float:
    points = [one.reshape(-1, one.shape[2]) for one in latents]
    return float(procrustes(*points)[2]) if points and len(points[0]) > 1 else float("nan")


def _counts(fit: xr.Dataset) -> list[int]:
    """Numbers of fixed points of each stability without input; -1 where they cannot be computed."""
    try:
        return [int(n) for n in fixed_points(fit).attrs["n_found"]]
    except ContractError:
        return [-1] * len(STABILITIES)


def _differences(pair: tuple[xr.Dataset, ...]) -> Iterator[tuple[str, str, str]]:
    """Options whose values differ, by name."""
    first, second = (_facts(one) for one in pair)
    for name in dict.fromkeys([*first, *second]):
        values = (first.get(name, "-"), second.get(name, "-"))
        if values[0] != values[1]:
            yield name, *values


def _facts(fit: xr.Dataset) -> dict[str, str]:
    """The options of a fit: those of its recipe, or its attributes, and its size."""
    facts = {"neurons": str(fit.sizes["neuron"]), "conditions": str(fit.sizes["condition"])}
    facts["rank"] = str(fit.sizes["rank"]) if "m" in fit else "none"
    try:
        recipe = dict(_flat(tomllib.loads(str(fit.attrs.get("recipe", "")))))
    except tomllib.TOMLDecodeError:
        recipe = {}
    return facts | (recipe or {name: str(fit.attrs[name]) for name in _OPTIONS if name in fit.attrs})


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The fields of nested tables with their dotted names."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    nested = [(key, one) for key, one in parts if isinstance(value, dict) or isinstance(one, dict)]
    if not nested and name:
        yield name, str(value)
    for key, one in nested:
        yield from _flat(one, f"{name}.{key}" if name else str(key))

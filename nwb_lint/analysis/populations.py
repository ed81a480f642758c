"""Populations of neurons by their loadings, their gains, and networks resampled from them."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from nwb_lint.contract import check_result, coords_along, input_names, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array, effective_n, nonlinearity_of, norm_ratio
from nwb_lint.model.simulate import network_of, run, with_run
from nwb_lint.options import PopulationOptions, ResampleOptions, validated
from nwb_lint.prepare import times_in

_PRIOR_NEURONS = 1e8  # strength of the prior, in neurons, that holds the means of a Bayesian mixture at 0
_STARTS = 5
_SUBSAMPLE = 0.8
_ADDED_VARIANCE = 1e-4  # to the loadings, whose mean square is 1


class Mixture(NamedTuple):
    """A mixture of Gaussians fitted to loadings, and its BIC."""

    model: GaussianMixture | BayesianGaussianMixture
    bic: float

    def labels(self, z: Array) -> Array:
        """The most likely group of every row."""
        return self.model.predict(z)


@validated(PopulationOptions)
def find_populations(
    fit: xr.Dataset,
    *,
    n_groups: int | None = None,
    method: str = "em",
    effective: bool = True,
    zero_mean: bool = True,
    max_groups: int = 5,
    resamples: int = 10,
    window_s: tuple[float, float] | None = None,
    hidden: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    """Group neurons by their loadings (m, n, I), and compute the gain of each group in every condition.

    Loadings are scaled to mean square 1 and modeled as a mixture of Gaussians, p(z) = Σ_p weight_p N(z; mean_p,
    covariance_p). The stability of k groups is the adjusted Rand index between mixtures fitted to two random subsamples
    of 80 % of the neurons. Its chance level is the 95 % quantile of the same for loadings from one Gaussian with their
    covariance. Among the numbers that are more stable than chance, and one group, the number with the lowest BIC is
    taken.

    Groups describe; they do not prove populations. A single population with heavy tails also needs two Gaussians.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, or a network that was trained on a task.
    n_groups : int or None, default=None
        Number of groups. None chooses it.
    method : str, default="em"
        "em" and "bayesian" fit mixtures. The second leaves groups empty that it does not need, and is slower.
        "small_weights" fits two groups around 0; the first has the smaller weights. "strongest_input" groups neurons by
        the input with their largest weight, relative to the mean square of the weights of this input.
    effective : bool, default=True
        Use the effective part of n, its projection on span(m, I), which a fit determines. False uses n itself. The
        projection mixes populations that differ in n, so use False where n is known, as in a trained network.
    zero_mean : bool, default=True
        Hold the means of the groups at 0, so that the groups differ by their covariance alone.
    max_groups : int, default=5
        Largest number of groups that is tried.
    resamples : int, default=10
        Number of pairs of subsamples, and of chance draws, for each number of groups.
    window_s : tuple of float or None, default=None
        Start and end of the window that gains are averaged over, s. None takes all times.
    hidden : bool, default=False
        Include hidden units, as `resample_network` needs. They start at random, so they can form populations of their
        own.
    seed : int, default=0
        Seed of the subsamples and the starts.

    Returns
    -------
    xarray.Dataset
        Kind "populations":

        - ``population (neuron)``: position of the neuron's group along ``group``. To keep it with a fit, call
          ``fit.assign_coords(population=found["population"])``.
        - ``loading (neuron, vector)``, ``mean (group, vector)``, ``covariance (group, vector, vector_other)``, in the
        units
          of the fit, and ``weight (group)``.
        - ``probability (neuron, group)``, of mixtures.
        - ``gain (condition, group)``: mean of phi'(x) over the neurons of the group, if the fit has inputs.
        - ``stability``, ``stability_chance`` and ``criterion (n_groups)``, the BIC: lower is better.

        All are dimensionless.

    Raises
    ------
    ContractError
        If the method is unknown, the groups are too many, or a mixture needs m and n, which the fit does not have.

    References
    ----------
    Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022.
    Valente, Pillow & Ostojic, NeurIPS 2022, section 3.3 (small weights).

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> found = find_populations(mock_fit(n_neurons=40), method="strongest_input")
    >>> found["group"].values.tolist(), found["gain"].dims
    (['stimulus'], ('condition', 'group'))
    """
    some = np.flatnonzero(recorded_of(fit) | hidden)
    _check_groups(fit, len(some), n_groups, method)
    loading = loadings_of(fit, effective).isel(neuron=some)
    z = _scaled(loading.values)
    out = xr.Dataset({"loading": loading}).assign_coords(
        coords_along(fit.isel(neuron=some), "neuron", kind="populations")
    )
    if method == "strongest_input":
        names = [name for name in input_names(fit) if not name.startswith(PREFIX)]  # an initial activation is no input
        strength = np.abs(_scaled(fit["input_weights"].values[some, : len(names)]))
        label, probability = strength.argmax(axis=1), None
    else:
        names, label, probability, table = _mixture(z, n_groups, method, zero_mean, max_groups, resamples, seed)
        out = out.merge(table)
    out["population"] = ("neuron",), label.astype(np.int64)
    share = np.eye(len(names))[label] if probability is None else probability
    if probability is not None:
        out["probability"] = ("neuron", "group"), probability
    moments = [_moments(loading.values, share[:, k], zero_mean) for k in range(len(names))]
    out["mean"] = ("group", "vector"), np.array([mean for mean, _ in moments])
    out["covariance"] = ("group", "vector", "vector_other"), np.array([cov for _, cov in moments])
    out["weight"] = ("group",), share.mean(axis=0)
    out = out.assign_coords(group=names, vector_other=out["vector"].values)
    if "u" in fit.variables:
        out["gain"] = _gains(fit, some, label, len(names), window_s)
        out = out.assign_coords(coords_along(fit, "condition", kind="populations"))
    out.attrs = {"kind": "populations", "method": method, "zero_mean": int(zero_mean), "seed": seed}
    out.attrs["effective"] = int(effective)
    check_result(out, "populations")
    return out


def _check_groups(fit: xr.Dataset, size: int, n_groups: int | None, method: str) -> None:
    fixed = method in ("small_weights", "strongest_input")
    if fixed and n_groups is not None:
        raise ContractError(f"n_groups is {n_groups}. method={method!r} sets the number itself. Leave n_groups out.")
    if "m" not in fit and method != "strongest_input":
        raise ContractError(
            "The fit has J and no m and n. Mixtures need loadings. Use method='strongest_input', or fit with a rank."
        )
    largest = size // 2
    if not fixed and (n_groups or 1) > largest:
        raise ContractError(f"n_groups is {n_groups} for {size} neurons. Use at most {largest} groups.")


def loadings_of(fit: xr.Dataset, effective: bool) -> xr.DataArray:
    """Loadings of each neuron (neuron, vector), in units of the fit: m, n (or its projection on span(m, I)) and I."""
    names, columns = [], []
    if "m" in fit:
        m, n = fit["m"].values, fit["n"].values
        for name, block in (("m", m), ("n", effective_n(m, n, fit["input_weights"].values) if effective else n)):
            names += [f"{name} {k + 1}" for k in range(block.shape[1])]
            columns.append(block)
    names += [f"I {name}" for name in input_names(fit)]
    columns.append(fit["input_weights"].values)
    return xr.DataArray(np.column_stack(columns), dims=("neuron", "vector"), coords={"vector": names})


def _scaled(loadings: Array) -> Array:
    """Columns scaled to mean square 1. Columns of zeros stay."""
    rms = np.sqrt((loadings**2).mean(axis=0))
    return loadings / np.where(rms > 0, rms, 1.0)


def _moments(loadings: Array, share: Array, zero_mean: bool) -> tuple[Array, Array]:
    """Mean and covariance of a group, with every neuron weighted by its probability in the group."""
    total = max(share.sum(), 1e-12)
    mean = np.zeros(loadings.shape[1]) if zero_mean else share @ loadings / total
    left = loadings - mean
    return mean, (left * share[:, None]).T @ left / total


def _mixture(z: Array, n_groups, method: str, zero_mean: bool, max_groups: int, resamples: int, seed: int):
    """Names, labels and probabilities of the groups of a mixture, and the table of stability and BIC."""
    small = method == "small_weights"
    if small:
        tried, method, zero_mean = [2], "em", True
    else:
        tried = [n_groups] if n_groups else list(range(1, min(max_groups, len(z) // 2) + 1))
    rng = np.random.default_rng(seed)
    fits = [fit_mixture(z, k, method, zero_mean, seed) for k in tried]
    scores = [_stability(z, k, method, zero_mean, resamples, rng) for k in tried]
    stability, chance = (np.array(column) for column in zip(*scores, strict=True))
    bic = np.array([one.bic for one in fits])
    candidate = np.array([k == 1 for k in tried]) | (stability > chance)
    best = int(np.argmin(np.where(candidate, bic, np.inf))) if len(tried) > 1 else 0
    found = fits[best]
    names = ["small", "large"] if small else [str(k + 1) for k in range(tried[best])]
    probability = found.model.predict_proba(z)
    used = np.isin(np.arange(probability.shape[1]), probability.argmax(axis=1))
    if not used.all() and not small:
        probability = probability[:, used] / probability[:, used].sum(axis=1, keepdims=True)
        names = names[: int(used.sum())]
    size = np.array([np.trace(_moments(z, p, True)[1]) for p in probability.T])
    order = np.argsort(size) if small else np.argsort(-probability.sum(axis=0))
    probability = probability[:, order]
    table = xr.Dataset(
        {
            "stability": ("n_groups", stability),
            "stability_chance": ("n_groups", chance),
            "criterion": ("n_groups", bic),
        },
        coords={"n_groups": tried},
    )
    return names, probability.argmax(axis=1), probability, table


def fit_mixture(z: Array, k: int, method: str, zero_mean: bool, seed: int, starts: int = _STARTS) -> Mixture:
    """The best of several starts of a mixture of k Gaussians, and its BIC (-2 log likelihood + parameters × log N).

    To hold the means at 0, EM runs on z and -z together, from means of 0. Every step is symmetric, so the means stay 0.
    """
    common = {"covariance_type": "full", "reg_covar": _ADDED_VARIANCE, "max_iter": 200, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if method == "bayesian":
            prior = {"mean_prior": np.zeros(z.shape[1]), "mean_precision_prior": _PRIOR_NEURONS} if zero_mean else {}
            model = BayesianGaussianMixture(n_components=k, n_init=starts, **common, **prior).fit(z)
        elif zero_mean:
            both = np.concatenate([z, -z])
            tried = [GaussianMixture(k, **common, **_around_zero(z, k, seed + s)).fit(both) for s in range(starts)]
            model = max(tried, key=lambda one: one.lower_bound_)
        else:
            model = GaussianMixture(k, n_init=starts, **common).fit(z)
    d = z.shape[1]
    parameters = k - 1 + k * d * (d + 1) // 2 + (0 if zero_mean else k * d)
    return Mixture(model, float(-2 * model.score(z) * len(z) + parameters * np.log(len(z))))


def _around_zero(z: Array, k: int, seed: int) -> dict[str, Array]:
    """A start with means of 0, and the covariances of groups with similar |z|."""
    groups = KMeans(k, n_init=1, random_state=seed).fit_predict(np.abs(z))
    d = z.shape[1]
    covariances = [(part.T @ part + np.eye(d)) / (len(part) + 1) for part in (z[groups == p] for p in range(k))]
    return {
        "means_init": np.zeros((k, d)),
        "weights_init": np.bincount(groups, minlength=k) / len(z),
        "precisions_init": np.linalg.inv(np.array(covariances)),
    }


def _stability(z: Array, k: int, method: str, zero_mean: bool, resamples: int, rng) -> tuple[float, float]:
    """Mean adjusted Rand index between subsamples, and its 95 % quantile for single Gaussians."""
    if k == 1:
        return 1.0, 1.0

    def agreement(sample: Array) -> float:
        size = max(k + 1, round(_SUBSAMPLE * len(sample)))
        labels = []
        for _ in range(2):
            part = sample[rng.permutation(len(sample))[:size]]
            labels.append(fit_mixture(part, k, method, zero_mean, int(rng.integers(2**31)), starts=1).labels(sample))
        split = all(len(np.unique(one)) > 1 for one in labels)  # a single group twice does not show several groups
        return float(adjusted_rand_score(*labels)) if split else 0.0

    mean = np.zeros(z.shape[1]) if zero_mean else z.mean(axis=0)
    covariance = (z - mean).T @ (z - mean) / len(z)
    single = [agreement(rng.multivariate_normal(mean, covariance, len(z))) for _ in range(resamples)]
    return float(np.mean([agreement(z) for _ in range(resamples)])), float(np.quantile(single, 0.95))


def _gains(fit: xr.Dataset, some: Array, label: Array, n_groups: int, window_s: tuple | None) -> xr.DataArray:
    """Mean of phi'(x) over times and the neurons of a group, (condition, group). NaN for an empty group."""
    found = run(fit)
    x = found["activity"].values[:, times_in(found["time"].values, window_s)][..., some]
    nonlinearity = nonlinearity_of(fit.attrs.get("nonlinearity"))
    slope = nonlinearity.slope(x, nonlinearity.phi(x)).mean(axis=1)
    gains = [
        slope[:, label == k].mean(axis=1) if (label == k).any() else np.full(len(x), np.nan) for k in range(n_groups)
    ]
    return xr.DataArray(np.array(gains).T.astype(float), dims=("condition", "group"))


@validated(ResampleOptions)
def resample_network(
    fit: xr.Dataset, populations: xr.Dataset, *, seed: int = 0, n_neurons: int | None = None
) -> xr.Dataset:
    """Draw a reduced network: new loadings for every neuron from the Gaussian of its population.

    z_i ~ N(mean_p, covariance_p) jointly for m, n, I, bias, initial activation and readout. n itself is drawn, since
    its projection on span(m, I) would mix the populations. What this network still does rests on the means and
    covariances of the populations alone. Run it with `simulate`. Its dynamics depend on N only by the error of
    sampling, which falls as 1 / sqrt(N).

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, with a rank, or a network that was trained on a task.
    populations : xarray.Dataset
        From `find_populations` of this fit, with ``hidden=True`` if it has hidden units.
    seed : int, default=0
        Seed of the draw.
    n_neurons : int or None, default=None
        Number of neurons of the new network. None takes that of the fit. The groups keep their shares.

    Returns
    -------
    xarray.Dataset
        A fit or a network for `simulate`, with the coordinate ``population (neuron)``. Scores are NaN, since nothing
        was fitted. The attribute ``n_norm_ratio`` is ||n|| / ||P n|| of the fit: far above 1, intact activity hardly
        determines n, on which the drawn network rests. If the fit has inputs, the attribute ``latent_r2`` is the share
        of the variance of its latents that the latents of the new network explain.

    Raises
    ------
    ContractError
        If the fit has no m and n, or the populations have other neurons.

    References
    ----------
    Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> fit = mock_fit(n_neurons=40)
    >>> groups = find_populations(fit, n_groups=1)
    >>> resample_network(fit, groups, n_neurons=100)["m"].shape
    (100, 1)
    """
    check_result(populations, "populations")
    if "m" not in fit:
        raise ContractError("The fit has J and no m and n, so it has no loadings to draw. Fit with a rank.")
    if populations["neuron"].values.tolist() != fit["neuron"].values.tolist():
        raise ContractError("The populations have other neurons than the fit. Call find_populations(fit, hidden=True).")
    size = fit.sizes["neuron"] if n_neurons is None else n_neurons
    rng = np.random.default_rng(seed)
    names = [name for name in ("bias", "initial_activation", "readout") if name in fit]
    loading = loadings_of(fit, False).values
    whole = np.column_stack([loading, *(fit[name].values for name in names)])
    label = populations["population"].values
    share = (
        populations["probability"].values if "probability" in populations else np.eye(populations.sizes["group"])[label]
    )
    group = np.sort(rng.choice(share.shape[1], size, p=share.mean(axis=0) / share.mean(axis=0).sum()))
    drawn = np.empty((size, whole.shape[1]))
    for k in range(share.shape[1]):
        mean, covariance = _moments(whole, share[:, k], bool(populations.attrs["zero_mean"]))
        # the means of bias, initial activation and readout are kept, also where the groups' means are held at 0
        mean[loading.shape[1] :] = _moments(whole, share[:, k], False)[0][loading.shape[1] :]
        covariance = covariance - np.outer(mean, mean) * bool(populations.attrs["zero_mean"])
        drawn[group == k] = rng.multivariate_normal(mean, covariance, int((group == k).sum()), check_valid="ignore")
    return _network(fit, drawn, names, group)


def _network(fit: xr.Dataset, drawn: Array, names: list[str], group: Array) -> xr.Dataset:
    """The drawn loadings as a Dataset of the same kind as the fit."""
    rank, inputs, size = fit.sizes["rank"], fit.sizes["input"], len(drawn)
    coords = {k: v for k, v in fit.coords.items() if "neuron" not in v.dims}
    # no recipe made this network, its scores are unknown, and it has no hidden units
    out = xr.Dataset(coords=coords, attrs={k: v for k, v in fit.attrs.items() if k not in ("accuracy", "fingerprint")})
    out.attrs |= {"hidden": 0} if "hidden" in fit.attrs else {}
    out = out.assign_coords(neuron=[f"drawn{k:05d}" for k in range(size)], population=("neuron", group))
    out["m"], out["n"] = (("neuron", "rank"), drawn[:, :rank]), (("neuron", "rank"), drawn[:, rank : 2 * rank])
    out["input_weights"] = ("neuron", "input"), drawn[:, 2 * rank : 2 * rank + inputs]
    for k, name in enumerate(names):
        out[name] = ("neuron",), drawn[:, 2 * rank + inputs + k]
    out.attrs["gauge"] = "none"
    out.attrs["n_norm_ratio"] = norm_ratio(network_of(fit), inputs + 1, np.zeros((0, 0, fit.sizes["neuron"])))
    if "u" not in fit.variables:
        return out
    for name in ("u", "u_burn_in"):
        if name in fit.variables:
            out[name] = fit[name].dims, fit[name].values
    out, before = with_run(out), run(fit)["latent"].values
    for name in ("r2", "r2_ceiling"):
        out[name] = ("split",), np.full(2, np.nan)
    out["r2_neuron"] = ("split", "neuron"), np.full((2, size), np.nan)
    left = ((out["latent"].values - before) ** 2).sum()
    out.attrs["latent_r2"] = float(1 - left / ((before - before.mean(axis=(0, 1))) ** 2).sum())
    return out

"""Populations of neurons by their loadings, their gains, and networks resampled from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import coords_along, input_names, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of, effective_n_of
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array, DeterminedN, determined_n, nonlinearity_of, norm_ratio
from nwb_lint.model.simulate import network_of, run, with_run
from nwb_lint.model.tuning import COMPLETIONS, UNDETERMINED_SIZE, VISITED_SAMPLES
from nwb_lint.options.analyses import PopulationOptions, ResampleOptions
from nwb_lint.options.checks import validated
from nwb_lint.prepare import times_in

_PRIOR_NEURONS = 1e8  # strength of the prior, in neurons, that holds the means of a Bayesian mixture at 0
_STARTS = 5
_SUBSAMPLE = 0.8
_EQUAL_STABILITY = 0.1  # of numbers of groups whose stability differs by less, the smallest is taken
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
    covariance_p). Of n, they contain what the states of the free run determine: the n of least norm with the same
    n' phi(x) on these states. The rest of n is drawn anew in every sample, at a third of this size, so that it forms no
    groups. The stability of k groups is the adjusted Rand index between mixtures fitted to two random subsamples of
    80 % of the neurons. Its chance level is the 95 % quantile of the same for single populations: m and I from one
    Gaussian, the distribution of greatest entropy with their covariance, n a linear function of them, the latents and
    inputs those of the fit, and the part of n that is determined then. Among the numbers that are more stable than
    chance and have a lower BIC than one group, the smallest within .1 of the most stable is taken; else one group.

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
        Use the part of n that the states of the free run determine; without inputs, the projection of n on
        span(m, I). False uses n itself. In a fit, the rest of n is then drawn anew at its own size, and stability says
        whether groups exist without it. Networks that were trained on a task have a known n.
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
          units of the fit, and ``weight (group)``.
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
    Kim, Pereira-Obilinovic, Wang, Shea-Brown & Sümbül, arXiv 2603.26506, 2026 (which connectivity dynamics determine).

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> found = find_populations(mock_fit(n_neurons=40), method="strongest_input")
    >>> found["group"].values.tolist(), found["gain"].dims
    (['stimulus'], ('condition', 'group'))
    """
    some = np.flatnonzero(recorded_of(fit) | hidden)
    _check_groups(fit, len(some), n_groups, method)
    state = _determined(fit, effective)
    loading = loadings_of(fit, _n_of(fit, effective, state)).isel(neuron=some)
    out = xr.Dataset({"loading": loading}).assign_coords(
        coords_along(fit.isel(neuron=some), "neuron", kind="populations")
    )
    if method == "strongest_input":
        names = [name for name in input_names(fit) if not name.startswith(PREFIX)]  # an initial activation is no input
        strength = np.abs(_scaled(fit["input_weights"].values[some, : len(names)]))
        label, probability = strength.argmax(axis=1), None
    else:
        draws = _draws(fit, some, loading.values, effective, zero_mean, state)
        names, label, probability, table = _mixture(draws, n_groups, method, zero_mean, max_groups, resamples, seed)
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


def loadings_of(fit: xr.Dataset, n: Array | None) -> xr.DataArray:
    """Loadings of each neuron (neuron, vector), in units of the fit: m, a given n and I."""
    names, columns = [], []
    if n is not None:
        for name, block in (("m", fit["m"].values), ("n", n)):
            names += [f"{name} {k + 1}" for k in range(block.shape[1])]
            columns.append(block)
    names += [f"I {name}" for name in input_names(fit)]
    columns.append(fit["input_weights"].values)
    return xr.DataArray(np.column_stack(columns), dims=("neuron", "vector"), coords={"vector": names})


def _n_of(fit: xr.Dataset, effective: bool, state: tuple[_Visited, DeterminedN] | None) -> Array | None:
    """n, or the part of it that the states of the free run determine; None for an unconstrained J."""
    if "m" not in fit or not effective:
        return fit["n"].values if "m" in fit else None
    if state is None:
        return effective_n_of(blocks_of(fit), fit["m"].values, fit["n"].values, fit["input_weights"].values)
    return state[1].n


class _Visited(NamedTuple):
    """States of the free run on some samples: x = m latent + I drive + rest, with the rest from bias and start."""

    fit: xr.Dataset
    latent: Array
    drive: Array
    rest: Array

    @classmethod
    def of(cls, fit: xr.Dataset) -> _Visited:
        found = run(fit)
        names = ("latent", "filtered_input", "activity")
        flat = (found[name].values.reshape(-1, found[name].shape[2]) for name in names)
        latent, drive, x = (one[:: -(-len(one) // VISITED_SAMPLES)].astype(float) for one in flat)
        return cls(fit, latent, drive, x - latent @ fit["m"].values.T - drive @ fit["input_weights"].values.T)

    def determined(
        self, n: Array, z: Array | None = None, ridge: float | None = None, rest: Array | None = None
    ) -> DeterminedN:
        """The determined part of n, of the fit or of neurons with other m and I, the columns of z."""
        z = np.column_stack([self.fit["m"].values, self.fit["input_weights"].values]) if z is None else z
        x = np.column_stack([self.latent, self.drive]) @ z.T + (self.rest if rest is None else rest)
        return determined_n(n, x, nonlinearity_of(self.fit.attrs.get("nonlinearity")), ridge)


def _determined(fit: xr.Dataset, effective: bool) -> tuple[_Visited, DeterminedN] | None:
    """The visited states and the part of n that they determine; None where there are none, or n itself is known."""
    if "u" not in fit.variables or "m" not in fit or (not effective and "r2" not in fit):
        return None
    visited = _Visited.of(fit)
    return visited, visited.determined(fit["n"].values)


class _Draws(NamedTuple):
    """Loadings to group: ``draw`` gives them with new values of what is not determined, ``null`` a single population.

    ``null(rng)`` draws such a population and returns its own ``draw``. ``number`` draws are grouped together.
    """

    draw: Callable[[np.random.Generator], Array]
    null: Callable[[np.random.Generator], Callable[[np.random.Generator], Array]]
    number: int


def _draws(
    fit: xr.Dataset,
    some: Array,
    loading: Array,
    effective: bool,
    zero_mean: bool,
    state: tuple[_Visited, DeterminedN] | None,
) -> _Draws:
    """Loadings of some neurons, and those of a single population with the same covariance.

    The n of a fit is known only as far as the visited states determine it. Its other part is drawn anew: of a third of
    the size of the determined part, or, for n itself (``effective=False``), of its own size.
    """
    if state is None:
        z = _scaled(loading)
        mean = np.zeros(z.shape[1]) if zero_mean else z.mean(axis=0)
        covariance = (z - mean).T @ (z - mean) / len(z)

        def null(rng: np.random.Generator) -> Callable[[np.random.Generator], Array]:
            sample = rng.multivariate_normal(mean, covariance, len(z))
            return lambda rng: sample

        return _Draws(lambda rng: z, null, 1)
    visited, found = state
    size = np.sqrt((found.n**2).mean(axis=0)) * UNDETERMINED_SIZE
    if not effective:
        size = np.sqrt(((fit["n"].values - found.n) ** 2).sum(axis=0) / max(len(found.n) - found.shares.sum(), 1.0))

    def draw_of(m: Array, part: DeterminedN, weights: Array) -> Callable[[np.random.Generator], Array]:
        return lambda rng: _scaled(np.column_stack([m, part.completed(size, rng), weights])[some])

    def one_population(rng: np.random.Generator) -> Callable[[np.random.Generator], Array]:
        z, n = _single(fit, found.n, zero_mean, rng)
        rest, rank = visited.rest[:, rng.permutation(len(z))], found.n.shape[1]
        return draw_of(z[:, :rank], visited.determined(n, z, found.ridge, rest), z[:, rank:])

    return _Draws(draw_of(fit["m"].values, found, fit["input_weights"].values), one_population, COMPLETIONS)


def _single(fit: xr.Dataset, n: Array, zero_mean: bool, rng: np.random.Generator) -> tuple[Array, Array]:
    """m and I of a Gaussian population, and the n that depends on them as that of the fit; hidden units apart."""
    z = np.column_stack([fit["m"].values, fit["input_weights"].values])
    drawn, recorded = np.empty((len(z), z.shape[1] + n.shape[1])), recorded_of(fit)
    for part in (recorded, ~recorded):
        if part.any():
            mean = np.zeros(z.shape[1]) if zero_mean else z[part].mean(axis=0)
            left, offset = z[part] - mean, np.zeros(n.shape[1]) if zero_mean else n[part].mean(axis=0)
            slope = np.linalg.lstsq(left, n[part] - offset, rcond=None)[0]
            new = rng.multivariate_normal(0 * mean, left.T @ left / len(left), len(left), check_valid="ignore")
            drawn[part] = np.column_stack([new + mean, new @ slope + offset])
    return drawn[:, : z.shape[1]], drawn[:, z.shape[1] :]


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


def _mixture(draws: _Draws, n_groups, method: str, zero_mean: bool, max_groups: int, resamples: int, seed: int):
    """Names, labels and probabilities of the groups of a mixture, and the table of stability and BIC."""
    rng = np.random.default_rng(seed)
    copies = [draws.draw(rng) for _ in range(draws.number)]
    z, size = np.concatenate(copies), len(copies[0])
    small = method == "small_weights"
    if small:
        tried, method, zero_mean = [2], "em", True
    else:
        tried = [n_groups] if n_groups else list(range(1, min(max_groups, size // 2) + 1))
    fits = [fit_mixture(z, k, method, zero_mean, seed, copies=len(copies)) for k in tried]
    nulls = [draws.null(rng) for _ in range(resamples if max(tried) > 1 else 0)]
    scores = [_stability(draws.draw, nulls, k, method, zero_mean, rng) for k in tried]
    stability, chance = (np.array(column) for column in zip(*scores, strict=True))
    bic = np.array([one.bic for one in fits])
    candidate = (stability > chance) & (bic < bic[0])
    best = int(np.argmax(candidate & (stability > stability[candidate].max(initial=0.0) - _EQUAL_STABILITY)))
    found = fits[best]
    names = ["small", "large"] if small else [str(k + 1) for k in range(tried[best])]
    probability = np.mean([found.model.predict_proba(one) for one in copies], axis=0)
    used = np.isin(np.arange(probability.shape[1]), probability.argmax(axis=1))
    if not used.all() and not small:
        probability = probability[:, used] / probability[:, used].sum(axis=1, keepdims=True)
        names = names[: int(used.sum())]
    spread = np.array([np.trace(_moments(copies[0], p, True)[1]) for p in probability.T])
    order = np.argsort(spread) if small else np.argsort(-probability.sum(axis=0))
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


def fit_mixture(
    z: Array, k: int, method: str, zero_mean: bool, seed: int, starts: int = _STARTS, copies: int = 1
) -> Mixture:
    """The best of several starts of a mixture of k Gaussians, and its BIC (-2 log likelihood + parameters × log N).

    ``copies``: how often each neuron is among the rows; it counts once in the BIC. To hold the means at 0, EM runs on z
    and -z together, from means of 0. Every step is symmetric, so the means stay 0.
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
    d, size = z.shape[1], len(z) / copies
    parameters = k - 1 + k * d * (d + 1) // 2 + (0 if zero_mean else k * d)
    return Mixture(model, float(-2 * model.score(z) * size + parameters * np.log(size)))


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


def _stability(
    draw: Callable, nulls: list[Callable], k: int, method: str, zero_mean: bool, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean adjusted Rand index between subsamples, and its 95 % quantile for single populations."""
    if k == 1:
        return 1.0, 1.0

    def agreement(one: Callable[[np.random.Generator], Array]) -> float:
        labels = []
        for _ in range(2):
            sample = one(rng)
            part = sample[rng.permutation(len(sample))[: max(k + 1, round(_SUBSAMPLE * len(sample)))]]
            labels.append(fit_mixture(part, k, method, zero_mean, int(rng.integers(2**31)), starts=1).labels(sample))
        split = all(len(np.unique(one)) > 1 for one in labels)  # a single group twice does not show several groups
        return float(adjusted_rand_score(*labels)) if split else 0.0

    found = [agreement(draw) for _ in nulls]
    return float(np.mean(found)), float(np.quantile([agreement(one) for one in nulls], 0.95))


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

    z_i ~ N(mean_p, covariance_p) jointly for m, n, I, bias, initial activation and readout. n is that of the
    populations: the part that the states of the free run determine, or n itself with ``effective=False`` and without
    inputs. Its projection on span(m, I) would mix the populations. What this network still does rests on the means and
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
        determines n. If the fit has inputs, the attribute ``latent_r2`` is the share
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
    effective = bool(populations.attrs["effective"]) and "u" in fit.variables
    loading = loadings_of(fit, _n_of(fit, effective, _determined(fit, effective) if effective else None)).values
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
    # no recipe made this network, its scores are unknown, and it has neither hidden units nor areas
    coords = {k: v for k, v in fit.coords.items() if "neuron" not in v.dims and k not in ("to_area", "from_area")}
    kept = {k: v for k, v in fit.attrs.items() if k not in ("accuracy", "fingerprint", "areas")}
    out = xr.Dataset(coords=coords, attrs=kept)
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

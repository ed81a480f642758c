"""Populations of neurons in a fit's loadings, their gains, and the network that has nothing but these populations."""

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
from nwb_lint.model.network import Array, effective_n, nonlinearity_of
from nwb_lint.model.simulate import run, with_run
from nwb_lint.prepare import times_in

METHODS = ("bayesian", "em", "small_weights", "strongest_input")

_FIXED = 1e8  # neurons' worth of prior that holds the means of a Bayesian mixture at 0
_STARTS = 5
_SUBSAMPLE = 0.8
_REGULAR = 1e-4  # added to the variances of unit-variance loadings


class Mixture(NamedTuple):
    """A mixture fitted to loadings: probability (neuron, group) as a function of loadings, and its BIC."""

    model: GaussianMixture | BayesianGaussianMixture
    bic: float

    def labels(self, z: Array) -> Array:
        """The likeliest group of every row."""
        return self.model.predict(z)


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
    """Groups of neurons by their loadings (m, n, I), and the gain of each group in every condition.

    Loadings are set to unit mean square and modeled as a mixture of Gaussians, p(z) = sum_p weight_p N(z; mean_p,
    covariance_p). Stability of k groups is the adjusted Rand index, over all neurons, between mixtures fitted to two
    random 80 % of them; its chance level the 95 % quantile of the same where the loadings come from a single Gaussian
    of their covariance. Of the numbers more stable than chance (one group needs no proof) the one of lowest BIC is
    taken. Groups are descriptions: a heavy-tailed single population also asks for two Gaussians.

    Args:
        fit: from `fit_lint`, or a task network.
        n_groups: None = chosen; a number is taken as it is, its stability told.
        method: "em" or "bayesian" mixtures (the latter leaves groups empty that it does not need, and is slower);
            "small_weights", two mixture groups around 0 of which the first has the smaller weights; "strongest_input",
            the input with the largest weight relative to that input's mean square.
        effective: n projected on span(m, I), the part of it that a fit determines; False = n itself. The projection
            mixes populations whose n differ, so where n is known, as in a task network, False tells more.
        zero_mean: hold the groups' means at 0 (loadings are centered), so that they differ by covariance alone.
        max_groups: the most that are tried. resamples: pairs of subsamples, and of chance draws, per number.
        window_s: over which gains are averaged; None = all times.
        hidden: hidden units too, which `resample_network` needs; else the recorded neurons alone, since hidden units
            are drawn at random and would make populations of their own.

    | name | dims | unit |
    |---|---|---|
    | population | neuron | 1, position along group; ``fit.assign_coords(population=found["population"])`` |
    | loading, mean, covariance, weight | neuron, group, vector | 1, in the units of the fit |
    | probability | neuron, group | 1, of mixtures |
    | gain | condition, group | 1, mean of phi'(x) of the group's neurons; where the fit has an input |
    | stability, stability_chance, criterion | n_groups | 1 (BIC: lower is better) |

    Raises: ContractError for an unknown method, too many groups, or mixtures of a fit with J (it has no loadings).

    Source: Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022; Valente, Pillow & Ostojic,
    NeurIPS 2022, section 3.3 (small weights).

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> found = find_populations(mock_fit(n_neurons=40), method="strongest_input")
        >>> found["group"].values.tolist(), found["gain"].dims
        (['stimulus'], ('condition', 'group'))
    """
    some = np.flatnonzero(recorded_of(fit) | hidden)
    _check_asked(fit, len(some), n_groups, method, max_groups, resamples)
    loading = loadings_of(fit, effective).isel(neuron=some)
    z = _scaled(loading.values)
    out = xr.Dataset({"loading": loading}).assign_coords(coords_along(fit.isel(neuron=some), "neuron"))
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
        out = out.assign_coords(coords_along(fit, "condition"))
    out.attrs = {"kind": "populations", "method": method, "zero_mean": int(zero_mean), "seed": seed}
    out.attrs["effective"] = int(effective)
    check_result(out, "populations")
    return out


def _check_asked(
    fit: xr.Dataset, size: int, n_groups: int | None, method: str, max_groups: int, resamples: int
) -> None:
    if method not in METHODS:
        raise ContractError(f"method is {method!r}; it needs to be one of {', '.join(map(repr, METHODS))}.")
    fixed = method in ("small_weights", "strongest_input")
    if fixed and n_groups is not None:
        raise ContractError(f"method={method!r} sets the number of groups itself; leave n_groups out.")
    if "m" not in fit and method != "strongest_input":
        raise ContractError("the fit has J and no m and n, so no loadings; use method='strongest_input', or a rank.")
    largest = size // 2
    for name, value in (("n_groups", n_groups), ("max_groups", max_groups), ("resamples", resamples)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise ContractError(f"{name} is {value!r}; it needs a whole number from 1 on.")
    if not fixed and max(n_groups or 1, 1) > largest:
        raise ContractError(f"{n_groups} groups were asked of {size} neurons; use at most {largest}.")


def loadings_of(fit: xr.Dataset, effective: bool) -> xr.DataArray:
    """What connects a neuron, (neuron, vector): m, n (or its projection on span(m, I)) and I, in units of the fit."""
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
    """Columns of unit mean square; those of nothing but 0 stay."""
    rms = np.sqrt((loadings**2).mean(axis=0))
    return loadings / np.where(rms > 0, rms, 1.0)


def _moments(loadings: Array, share: Array, zero_mean: bool) -> tuple[Array, Array]:
    """Mean and covariance of a group, every neuron weighted by its share in it."""
    total = max(share.sum(), 1e-12)
    mean = np.zeros(loadings.shape[1]) if zero_mean else share @ loadings / total
    left = loadings - mean
    return mean, (left * share[:, None]).T @ left / total


def _mixture(z: Array, n_groups, method: str, zero_mean: bool, max_groups: int, resamples: int, seed: int):
    """Names, labels and probabilities of a mixture's groups, and the table of stability and BIC."""
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
    proven = np.array([k == 1 for k in tried]) | (stability > chance)
    best = int(np.argmin(np.where(proven, bic, np.inf))) if len(tried) > 1 else 0
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
    """The best of several starts of a mixture of k Gaussians, and its BIC (-2 log likelihood + parameters log N).

    EM around 0: mirrored data, -z beside z, with a start at means of 0 stay there, since every step is as symmetric.
    """
    common = {"covariance_type": "full", "reg_covar": _REGULAR, "max_iter": 200, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if method == "bayesian":
            held = {"mean_prior": np.zeros(z.shape[1]), "mean_precision_prior": _FIXED} if zero_mean else {}
            model = BayesianGaussianMixture(n_components=k, n_init=starts, **common, **held).fit(z)
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
    """A start at means of 0: covariances of groups of alike |z|."""
    groups = KMeans(k, n_init=1, random_state=seed).fit_predict(np.abs(z))
    d = z.shape[1]
    covariances = [(part.T @ part + np.eye(d)) / (len(part) + 1) for part in (z[groups == p] for p in range(k))]
    return {
        "means_init": np.zeros((k, d)),
        "weights_init": np.bincount(groups, minlength=k) / len(z),
        "precisions_init": np.linalg.inv(np.array(covariances)),
    }


def _stability(z: Array, k: int, method: str, zero_mean: bool, resamples: int, rng) -> tuple[float, float]:
    """Mean adjusted Rand index between subsamples, and the 95 % quantile of that of single Gaussians."""
    if k == 1:
        return 1.0, 1.0

    def agreement(sample: Array) -> float:
        size = max(k + 1, round(_SUBSAMPLE * len(sample)))
        labels = []
        for _ in range(2):
            part = sample[rng.permutation(len(sample))[:size]]
            labels.append(fit_mixture(part, k, method, zero_mean, int(rng.integers(2**31)), starts=1).labels(sample))
        split = all(len(np.unique(one)) > 1 for one in labels)  # two times one group is no sign of several
        return float(adjusted_rand_score(*labels)) if split else 0.0

    mean = np.zeros(z.shape[1]) if zero_mean else z.mean(axis=0)
    covariance = (z - mean).T @ (z - mean) / len(z)
    single = [agreement(rng.multivariate_normal(mean, covariance, len(z))) for _ in range(resamples)]
    return float(np.mean([agreement(z) for _ in range(resamples)])), float(np.quantile(single, 0.95))


def _gains(fit: xr.Dataset, some: Array, label: Array, n_groups: int, window_s: tuple | None) -> xr.DataArray:
    """Mean of phi'(x) over times and the neurons of a group, (condition, group); NaN for a group of nobody."""
    found = run(fit)
    x = found["activity"].values[:, times_in(found["time"].values, window_s)][..., some]
    nonlinearity = nonlinearity_of(fit.attrs.get("nonlinearity"))
    slope = nonlinearity.slope(x, nonlinearity.phi(x)).mean(axis=1)
    gains = [
        slope[:, label == k].mean(axis=1) if (label == k).any() else np.full(len(x), np.nan) for k in range(n_groups)
    ]
    return xr.DataArray(np.array(gains).T.astype(float), dims=("condition", "group"))


def resample_network(
    fit: xr.Dataset, populations: xr.Dataset, *, seed: int = 0, n_neurons: int | None = None
) -> xr.Dataset:
    """The reduced network: the loadings of every neuron drawn anew from the Gaussian of its population.

    z_i ~ N(mean_p, covariance_p) jointly for m, n, I, bias, initial activation and readout: n itself, since its
    projection on span(m, I) carries each population's overlaps over to the others. What the network
    still does after that, `simulate` and its latents tell, rests on the populations' means and covariances alone. The
    latents of J = m n' / N do not depend on N but for the luck of the draw, which falls as 1 / sqrt(N).

    Args:
        fit: with m and n. populations: from `find_populations` of it, with hidden=True where it has hidden units.
        n_neurons: of the new network; None = as many as before. Groups keep their shares.

    Returns: a fit or network that `simulate` takes, with the coordinate population (neuron); where the fit has an
        input, the attribute latent_r2 is the share of the latents' variance that the new network's latents explain. It
        is NaN in r2, since nothing was fitted.

    Raises: ContractError for a fit with J, or populations of other neurons.

    Source: Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> fit = mock_fit(n_neurons=40)
        >>> groups = find_populations(fit, n_groups=1)
        >>> resample_network(fit, groups, n_neurons=100)["m"].shape
        (100, 1)
    """
    check_result(populations, "populations")
    if "m" not in fit:
        raise ContractError("the fit has J and no m and n, so no loadings to draw; fit it with a rank.")
    if populations["neuron"].values.tolist() != fit["neuron"].values.tolist():
        raise ContractError(
            "the populations are of other neurons than the fit; call find_populations(fit, hidden=True)."
        )
    size = fit.sizes["neuron"] if n_neurons is None else n_neurons
    if size < 1:
        raise ContractError(f"n_neurons is {n_neurons}; it needs a whole number from 1 on.")
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
        # bias and start are no loadings and need not be centered, whatever the groups' means are
        mean[loading.shape[1] :] = _moments(whole, share[:, k], False)[0][loading.shape[1] :]
        covariance = covariance - np.outer(mean, mean) * bool(populations.attrs["zero_mean"])
        drawn[group == k] = rng.multivariate_normal(mean, covariance, int((group == k).sum()), check_valid="ignore")
    return _network(fit, drawn, names, group)


def _network(fit: xr.Dataset, drawn: Array, names: list[str], group: Array) -> xr.Dataset:
    """The drawn loadings as a Dataset of the fit's kind."""
    rank, inputs, size = fit.sizes["rank"], fit.sizes["input"], len(drawn)
    coords = {k: v for k, v in fit.coords.items() if "neuron" not in v.dims}
    # the network is neither what a recipe made nor as good, and has no hidden units
    out = xr.Dataset(coords=coords, attrs={k: v for k, v in fit.attrs.items() if k not in ("accuracy", "fingerprint")})
    out.attrs |= {"hidden": 0} if "hidden" in fit.attrs else {}
    out = out.assign_coords(neuron=[f"drawn{k:05d}" for k in range(size)], population=("neuron", group))
    out["m"], out["n"] = (("neuron", "rank"), drawn[:, :rank]), (("neuron", "rank"), drawn[:, rank : 2 * rank])
    out["input_weights"] = ("neuron", "input"), drawn[:, 2 * rank : 2 * rank + inputs]
    for k, name in enumerate(names):
        out[name] = ("neuron",), drawn[:, 2 * rank + inputs + k]
    out.attrs["gauge"] = "none"
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

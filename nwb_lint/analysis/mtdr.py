"""Model-based targeted dimensionality reduction: regression of low rank on trial variables, by maximum likelihood."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array, column_signs

MOST_DIMS = 5  # tried for each variable


class Moments(NamedTuple):
    """What the model needs of the activity: sums over conditions, with the mean over conditions removed.

    | name | shape | content |
    |---|---|---|
    | product | (variable, time, neuron) | sum_c z_v[c] x[c, t, i] |
    | gram | (variable, variable) | sum_c z_v[c] z_w[c] |
    | square | (neuron) | sum_ct x[c, t, i]² |
    | n_conditions | | number of conditions |
    """

    product: Array
    gram: Array
    square: Array
    n_conditions: int


class Model(NamedTuple):
    """A fitted model.

    | name | shape | content |
    |---|---|---|
    | w | (neuron, dim) | W of all variables side by side |
    | of | (dim) | the variable of each dim |
    | course | (time, dim) | expected time courses |
    | variance | (neuron) | noise variances |
    | likelihood | | log likelihood |
    """

    w: Array
    of: Array
    course: Array
    variance: Array
    likelihood: float

    @property
    def aic(self) -> float:
        """Akaike's criterion, 2 × parameters − 2 × log likelihood. A rotation within a variable is no parameter."""
        dims = np.bincount(self.of)
        return 2 * (self.w.size - int((dims * (dims - 1) // 2).sum()) + len(self.w)) - 2 * self.likelihood


def moments_of(x: Array, z: Array) -> Moments:
    """Moments of activity (condition, time, neuron) and variables (condition, variable) of mean 0."""
    left = x - x.mean(axis=0)
    return Moments(np.einsum("cv,ctn->vtn", z, left), z.T @ z, (left**2).sum(axis=(0, 1)), len(x))


def fit_mtdr(moments: Moments, dims: Array, *, max_iter: int = 300, tolerance: float = 1e-6) -> Model:
    """Fit the model with ``dims`` (variable) dims for each variable, by expectation maximization.

    x[c, t, i] = mean[t, i] + Σ_v z_v[c] Σ_k W_v[i, k] s_v[t, k] + e, with s ~ N(0, 1) and e ~ N(0, variance[i]). The
    regression weights of each variable are of low rank over neurons and times. The time courses s are integrated out.

    It ends after ``max_iter`` steps, or when a step raises the log likelihood by less than ``tolerance`` for each
    value.
    """
    of = np.repeat(np.arange(len(dims)), dims)
    w = _start(moments, dims)
    n_values = moments.n_conditions * moments.product.shape[1]
    variance = moments.square / n_values
    floor = 1e-9 * variance.mean()
    last = -np.inf
    for _ in range(max_iter):
        variance = np.maximum(variance, floor)
        course, covariance, likelihood = expectation(moments, w, of, variance)
        if likelihood - last < tolerance * n_values * len(w):
            break
        last = likelihood
        second = moments.gram[np.ix_(of, of)] * (len(course) * covariance + course.T @ course)
        first = np.einsum("tr,rtn->nr", course, moments.product[of])
        w = np.linalg.solve(second, first.T).T
        variance = (moments.square - (w * first).sum(axis=1)) / n_values
    return Model(w, of, course, variance, likelihood)


def choose_dims(moments: Moments) -> Model:
    """The model whose dims are added one at a time, where Akaike's criterion falls most, until it no longer falls.

    Every variable has at least one dim, so each has an axis.
    """
    best = fit_mtdr(moments, np.ones(len(moments.product), int))
    most = min(MOST_DIMS, *moments.product.shape[1:])
    while True:
        dims = np.bincount(best.of)
        tried = [fit_mtdr(moments, dims + one) for one in np.eye(len(dims), dtype=int)[dims < most]]
        lowest = min(tried, key=lambda model: model.aic, default=best)
        if not lowest.aic < best.aic:
            return best
        best = lowest


def axes_of(model: Model) -> list[Array]:
    """Orthonormal axes (neuron, dim) of every variable, in falling order of the regression weights along them."""
    found = []
    for variable in range(model.of.max() + 1):
        own = model.of == variable
        axes = np.linalg.svd(model.w[:, own] @ model.course[:, own].T, full_matrices=False)[0][:, : own.sum()]
        found.append(axes * column_signs(axes))
    return found


def _start(moments: Moments, dims: Array) -> Array:
    """W from the leading directions of the unconstrained regression weights, with time courses of mean square 1."""
    beta = np.linalg.solve(moments.gram, moments.product.reshape(len(dims), -1)).reshape(moments.product.shape)
    parts = []
    for one, k in zip(beta, dims, strict=True):
        _, s, vt = np.linalg.svd(one, full_matrices=False)
        parts.append(vt[:k].T * np.maximum(s[:k], 1e-3 * s[0]) / np.sqrt(len(one)))
    return np.concatenate(parts, axis=1)


def expectation(moments: Moments, w: Array, of: Array, variance: Array) -> tuple[Array, Array, float]:
    """Expected time courses (time, dim), their covariance (dim, dim), equal at all times, and the log likelihood."""
    scaled = w / variance[:, None]
    precision = np.eye(len(of)) + (w.T @ scaled) * moments.gram[np.ix_(of, of)]
    pull = np.einsum("nr,rtn->tr", scaled, moments.product[of])
    covariance = np.linalg.inv(precision)
    course = pull @ covariance
    n_times, n_conditions = len(course), moments.n_conditions
    constant = n_conditions * (np.log(variance).sum() + len(w) * np.log(2 * np.pi)) + np.linalg.slogdet(precision)[1]
    likelihood = -0.5 * (n_times * constant + (moments.square / variance).sum() - (pull * course).sum())
    return course, covariance, float(likelihood)

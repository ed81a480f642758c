"""What a fit is made from, on arrays: conditions of activity with their drives, and a network's errors on them.

What of an activity counts in a fit, and how much: masks, trial halves as instruments, weights of the neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import for_new_conditions
from nwb_lint.model.network import Array, Network, Nonlinearity, nonlinearity_of, steps, together
from nwb_lint.model.regression import fill, regression_errors, there_of
from nwb_lint.model.scores import as_slice, noise_power
from nwb_lint.parallel.threads import map_in_order

_MOST_COPIED = 2048  # neurons whose halves are copied
FLOOR = 0.01  # a neuron's noise variance is taken as at least this share of the median one


def unmasked(activity: xr.Dataset) -> xr.Dataset:
    """The activity with NaN where its ``mask`` is False, in the mean and in the halves."""
    if "mask" not in activity:
        return activity
    counts = activity["mask"]
    names = [name for name in ("activity", "activity_half") if name in activity]
    return activity.assign({name: activity[name].where(counts) for name in names})


def instruments_of(activity: xr.Dataset) -> Array | None:
    """activity_half as float32; None where there is none, no sample has both, or neurons are too many for copies."""
    if "activity_half" not in activity or activity.sizes["neuron"] > _MOST_COPIED:
        return None
    halves = activity["activity_half"].values.astype(np.float32, copy=False)
    return halves if np.isfinite(halves[0] + halves[1]).any() else None


def weights_of(activity: xr.Dataset, weights: object, train: Array) -> Array | None:
    """Weights w (neuron) of mean 1 for the loss sum_i w_i (x_i - prediction)^2; None = equal.

    "precision": 1 / noise variance of the neuron's means in the training conditions (boolean ``train``). Halves with n1
    and n2 trials give it (`r2.noise_power`); else it is taken as
    1 / n_trials, the noise of single trials being alike.

    Raises: ContractError for another text, numbers below 0 or not finite, all 0, not one for each neuron, or
        "precision" where there are neither halves nor trial numbers.
    """
    neurons = activity.sizes["neuron"]
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "precision":
            raise ContractError(f"weights is {weights!r}; it needs to be 'precision', an array over neuron, or None.")
        return _mean_one(_precision(activity, train))
    try:
        given = np.asarray(weights, float)
    except (TypeError, ValueError):
        raise ContractError(f"weights is {weights!r}; it needs numbers, one for each neuron.") from None
    if given.shape != (neurons,):
        raise ContractError(f"weights has shape {given.shape}; it needs one number for each of {neurons} neurons.")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ContractError("weights has values below 0 or not finite, or is 0 throughout; it needs numbers from 0 on.")
    return _mean_one(given)


def _mean_one(weights: Array) -> Array:
    return (weights / weights.mean()).astype(np.float32)


def _precision(activity: xr.Dataset, train: Array) -> Array:
    if "activity_half" in activity and "n_trials_half" in activity:
        halves, counts = activity["activity_half"].values[:, train], activity["n_trials_half"].values[:, train]
        noise = noise_power(halves, counts)
        known = np.isfinite(noise)
        number = known.sum(axis=(0, 1))
        variance = np.where(known, noise, 0).sum(axis=(0, 1)) / np.maximum(number, 1)
    elif "n_trials" in activity:
        trials = np.asarray(activity["n_trials"].values, float)[train].mean(axis=0)
        number, variance = trials, 1 / np.maximum(trials, FLOOR)
    else:
        raise ContractError(
            "weights='precision' needs activity_half and n_trials_half, or n_trials; the activity has neither. "
            "Give an array of weights, or read with halves."
        )
    middle = np.median(variance[(number > 0) & (variance > 0)]) if ((number > 0) & (variance > 0)).any() else 1.0
    return 1 / np.maximum(np.where(number > 0, variance, middle), FLOOR * middle)


class Samples(NamedTuple):
    """What a fit sees: x (condition, time, recorded), q (condition, burn-in + time, Q), and the model's constants;
    weights (recorded) of the loss, None = equal; halves (2, condition, time, recorded) of the trials, if any; first and
    last + 1 of the drives that are the starts of groups (`nwb_lint.model.initial_conditions`).
    """

    x: Array
    q: Array
    alpha: float
    nonlinearity: str | Nonlinearity = "tanh"
    loss: str = "activity"
    weights: Array | None = None
    halves: Array | None = None
    starts: tuple[int, int] = (0, 0)

    def take(self, conditions: Array) -> Samples:
        """The same for some conditions."""
        chosen = as_slice(conditions)
        halves = None if self.halves is None else self.halves[:, chosen]
        return self._replace(x=self.x[chosen], q=self.q[chosen], halves=halves)

    def power(self) -> float:
        """Squared activity of all neurons together, a sample."""
        there = there_of(self.x)
        samples = self.x.shape[0] * self.x.shape[1] if there is None else max(int(there.sum()), 1)
        return float(self._replace(loss="activity", weights=None).energies().sum() / samples)

    def regression(self, l2_n: float) -> dict[str, Any]:
        """What a regression of these conditions takes besides rank and ridges; ``l2_n`` of the power."""
        penalty = l2_n and l2_n * self.power()
        return {"alpha": self.alpha, "nonlinearity": self.nonlinearity, "weights": self.weights, "penalty": penalty}

    def energies(self) -> Array:
        """Squared activity per condition in the space of the loss: the error of predicting 0."""

        def energy(one: Array) -> float:
            seen = self.observed(one)
            total = float(np.vdot(seen, seen))
            return total if np.isfinite(total) else float(np.nansum(seen.astype(float) ** 2))

        return np.array([energy(one) for one in self.x])

    def held_from(self, fitted: Samples) -> Samples:
        """These conditions as a fit to others has to predict them: starts that it did not learn are the mean's."""
        return self._replace(q=for_new_conditions(self.q, fitted.q, self.starts))

    def coarse(self, step: int) -> Samples:
        """The same in time steps ``step`` times as long, with the same decay over each."""
        lead = (self.q.shape[1] - self.x.shape[1]) % step
        return self._replace(
            x=self.x[:, ::step], q=self.q[:, lead::step], alpha=1 - (1 - self.alpha) ** step, halves=None
        )

    def filled(self) -> Array:
        """x with each neuron's mean where it was not observed."""
        return fill(self.x, None, self.q, self.alpha, self.nonlinearity)

    def observed(self, x: Array) -> Array:
        """x in the space of the loss: itself, or phi(x), each neuron times the root of its weight."""
        seen = nonlinearity_of(self.nonlinearity).phi(x) if self.loss == "rate" else x
        return seen if self.weights is None else seen * np.sqrt(self.weights)

    def errors(self, network: Network) -> Array:
        """Squared error per condition of a free run; infinite where the run diverged."""
        skip, recorded = self.q.shape[1] - self.x.shape[1], self.x.shape[2]

        def errors_of(part: slice) -> Array:
            y = self.x[part]
            total = np.zeros(len(y))
            missing = None if np.isfinite(y.sum()) else np.isnan(y)
            with np.errstate(over="ignore", invalid="ignore"):
                for t, (x, _) in enumerate(steps(network, self.q[part], self.alpha, self.nonlinearity), -skip):
                    if t < 0:
                        continue
                    predicted = self.observed(x[:, :recorded])
                    off = self.observed(y[:, t]) - predicted
                    if missing is not None:
                        off = np.where(missing[:, t], 0 * predicted, off)
                    total += np.einsum("cn,cn->c", off, off)
            return total

        errors = np.concatenate(list(map_in_order(errors_of, together(len(self.x), network.n_neurons))))
        return np.where(np.isfinite(errors), errors, np.inf)

    def forced_error(self, networks: Sequence[Network], whiten: bool = False) -> Array:
        """Summed squared error of each network driven by the recorded rates, x - m n' F[phi(x)] / N - W q; or, with
        ``whiten``, of its innovations."""
        a, phi, w = self.alpha, self.nonlinearity, self.weights
        return regression_errors(networks, self.x, self.q, alpha=a, nonlinearity=phi, weights=w, whiten=whiten)

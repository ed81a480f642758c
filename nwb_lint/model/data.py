"""What a fit is made from: samples on arrays, weights of the neurons, trial halves as instruments, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import for_new_conditions, from_first_sample
from nwb_lint.model.network import (
    Array,
    Network,
    Nonlinearity,
    condition_blocks,
    free_run,
    nonlinearity_of,
    stacked,
    without_output,
)
from nwb_lint.model.regression import fill, observed_samples, regression_errors
from nwb_lint.model.scores import as_slice, noise_power
from nwb_lint.model.tuning import (
    BEHAVIOR_RIDGES,
    ERROR_VALUES,
    FREE_RUN_VALUES,
    MAX_INSTRUMENT_NEURONS,
    MIN_NOISE_SHARE,
)
from nwb_lint.parallel.threads import map_in_order


class Samples(NamedTuple):
    """Conditions of activity with their drives, and the constants of the network.

    x : array of shape (condition, time, recorded). NaN = not observed.
    q : array of shape (condition, burn-in + time, drive).
    alpha : time step / time constant.
    nonlinearity, loss : as in `fit_lint`.
    weights : array of shape (recorded,) of the loss. None = equal.
    halves : array of shape (2, condition, time, recorded), activity of two halves of the trials, if there are any.
    starts : first and last + 1 of the drives that are initial activations of groups (`initial_conditions`).
    inferred : array of shape (condition,), bool; conditions that start from their own first sample. None = no one.
    unseen_start : whether regressions leave out what activity before the first sample contributes.
    """

    x: Array
    q: Array
    alpha: float
    nonlinearity: str | Nonlinearity = "tanh"
    loss: str = "activity"
    weights: Array | None = None
    halves: Array | None = None
    starts: tuple[int, int] = (0, 0)
    inferred: Array | None = None
    unseen_start: bool = False

    def take(self, conditions: Array) -> Samples:
        """The samples of some conditions."""
        chosen = as_slice(conditions)
        halves = None if self.halves is None else self.halves[:, chosen]
        some = self.inferred is not None and self.inferred[chosen].any()
        inferred = self.inferred[chosen] if self.inferred is not None and some else None
        return self._replace(x=self.x[chosen], q=self.q[chosen], halves=halves, inferred=inferred)

    def as_new_conditions(self, fitted: Samples) -> Samples:
        """These conditions as a fit to others predicts them: unknown initial activations come from the first sample."""
        q, inferred = for_new_conditions(self.q, fitted.q, self.starts)
        return self._replace(q=q, inferred=inferred)

    def drives_for(self, network: Network) -> Array:
        """The drives of a free run, with the initial activations that this network infers from first samples."""
        if self.inferred is None or not self.inferred.any():
            return self.q
        q, new = self.q.copy(), self.inferred
        x = self.x[new]
        q[new] = from_first_sample(network, x, q[new], self.alpha, self.nonlinearity, self.starts)
        return q

    def coarse(self, step: int) -> Samples:
        """The same in time steps ``step`` times as long, with the same decay over a given time."""
        lead = (self.q.shape[1] - self.x.shape[1]) % step
        return self._replace(
            x=self.x[:, ::step], q=self.q[:, lead::step], alpha=1 - (1 - self.alpha) ** step, halves=None
        )

    def filled(self) -> Array:
        """x with each neuron's mean instead of NaN."""
        return fill(self.x, None, self.q, self.alpha, self.nonlinearity)

    def in_loss_space(self, x: Array) -> Array:
        """What the loss compares: x or phi(x), times the square root of each neuron's weight."""
        y = nonlinearity_of(self.nonlinearity).phi(x) if self.loss == "rate" else x
        return y if self.weights is None else y * np.sqrt(self.weights)

    def energies(self) -> Array:
        """Squared activity per condition in the space of the loss, which is the error of the prediction 0."""

        def energy(one: Array) -> float:
            y = self.in_loss_space(one)
            total = float(np.vdot(y, y))
            return total if np.isfinite(total) else float(np.nansum(y.astype(float) ** 2))

        return np.array([energy(one) for one in self.x])

    def power(self) -> float:
        """Squared activity of all neurons together, per sample."""
        observed = observed_samples(self.x)
        samples = self.x.shape[0] * self.x.shape[1] if observed is None else max(int(observed.sum()), 1)
        return float(self._replace(loss="activity", weights=None).energies().sum() / samples)

    def errors(self, network: Network) -> Array:
        """Squared error of a free run, per condition; infinite if the run diverged."""
        return self.errors_of([network])[0]

    def errors_of(self, networks: Sequence[Network]) -> Array:
        """Squared errors of free runs, (network, condition); infinite where a run diverged.

        Networks of equal shape that are small run together, since the time of a small run is that of its calls.
        """
        small = len(self.x) * networks[0].n_neurons * len(networks) <= FREE_RUN_VALUES
        same = len({tuple(None if part is None else part.shape for part in one) for one in networks}) == 1
        if len(networks) > 1 and not (small and same and self.inferred is None):
            return np.concatenate(list(map_in_order(lambda one: self.errors_of([one]), networks)))
        q = self.drives_for(networks[0])
        together = networks[0] if len(networks) == 1 else stacked(networks)
        blocks = condition_blocks(len(self.x), networks[0].n_neurons)
        errors = np.concatenate(
            list(map_in_order(lambda one: self._errors_of_block(together, q, one), blocks)), axis=-1
        )
        return np.where(np.isfinite(errors), errors, np.inf).reshape(len(networks), -1)

    def _errors_of_block(self, network: Network, q: Array, block: slice) -> Array:
        """Squared errors of some conditions; of several networks if ``network`` is a stack of them."""
        y, recorded = self.x[block], self.x.shape[2]
        skip, n_times = q.shape[1] - self.x.shape[1], self.x.shape[1]
        shape = (*network.m.shape[:-2], len(y))
        size = max(1, ERROR_VALUES // max(1, int(np.prod(shape)) * recorded))  # time steps that are compared together
        total, steps = np.zeros(shape), np.empty((min(size, n_times), *shape, recorded), y.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for t, (x, _) in enumerate(free_run(network, q[block], self.alpha, self.nonlinearity), -skip):
                if t < 0:
                    continue
                steps[t % size] = x[..., :recorded]
                if t % size == size - 1 or t == n_times - 1:
                    first = t - t % size
                    total += self._squares(y[:, first : t + 1].swapaxes(0, 1), steps[: t + 1 - first])
        return total

    def _squares(self, y: Array, x: Array) -> Array:
        """Squared errors of x (time, ..., condition, neuron) for y (time, condition, neuron)."""
        y = y.reshape(len(y), *(1,) * (x.ndim - 3), *y.shape[1:])
        predicted = self.in_loss_space(x)
        error, missing = self.in_loss_space(y) - predicted, np.isnan(y)
        if missing.any():
            error = np.where(missing, 0 * predicted, error)
        return np.einsum("...cn,...cn->...c", error, error).sum(axis=0, dtype=float)

    def teacher_forced_errors(self, networks: Sequence[Network], prewhiten: bool = False) -> Array:
        """Summed squared error of each network when the recorded rates drive it; of innovations with ``prewhiten``."""
        if self.inferred is not None:
            known = [self._replace(q=self.drives_for(one), inferred=None) for one in networks]
            each = [own.teacher_forced_errors([one], prewhiten)[0] for own, one in zip(known, networks, strict=True)]
            return np.array(each)
        return regression_errors(
            networks,
            self.x,
            self.q,
            alpha=self.alpha,
            nonlinearity=self.nonlinearity,
            weights=self.weights,
            prewhiten=prewhiten,
            unseen_start=self.unseen_start,
        )

    def regression_options(self, l2_n: float) -> dict[str, Any]:
        """Arguments of both regressions besides rank and ridges; ``l2_n`` in units of the power."""
        penalty = l2_n and l2_n * self.power()
        return {
            "alpha": self.alpha, "nonlinearity": self.nonlinearity, "weights": self.weights, "penalty": penalty,
            "unseen_start": self.unseen_start,
        }  # fmt: skip


def with_behavior(samples: Samples, z: Array, seen: Array, weight: float) -> Samples:
    """The samples with behavior as further neurons without output, each with ``weight`` times the power of a neuron.

    ``z`` (condition, time, readout) has unit variance. Where it was not observed (``seen`` of this shape), it is what a
    ridge regression on the activity gives, so that the direction which it is read from stays the same.
    """
    from sklearn.linear_model import RidgeCV

    number = samples.x.shape[2]
    known = samples.filled().astype(float)
    filled = z.astype(float)
    for k in range(z.shape[2]):
        use = seen[..., k]
        if not use.all():
            found = RidgeCV(BEHAVIOR_RIDGES).fit(known[use], z[use, k])
            filled[~use, k] = found.predict(known[~use])
    power = float(np.nanmean(np.square(samples.x, dtype=float)))
    rows = (np.sqrt(power) * filled).astype(samples.x.dtype)
    weights = np.ones(number) if samples.weights is None else samples.weights
    halves = samples.halves
    if halves is not None:
        halves = np.concatenate([halves, np.broadcast_to(rows, (2, *rows.shape))], axis=3)
    return samples._replace(
        x=np.concatenate([samples.x, rows], axis=2),
        weights=np.concatenate([weights, np.full(z.shape[2], weight)]).astype(np.float32),
        halves=halves,
        nonlinearity=without_output(samples.nonlinearity, slice(number, number + z.shape[2])),
    )


def without_behavior(network: Network, recorded: int, readouts: int) -> Network:
    """A network without the rows of its readouts, which have no output; the others have the same dynamics."""
    m, n, w = (None if one is None else np.delete(one, slice(recorded, recorded + readouts), axis=0) for one in network)
    assert m is not None
    assert w is not None
    return Network(m, None if n is None else n * (len(m) / len(network.m)), w)


def unmasked(activity: xr.Dataset) -> xr.Dataset:
    """Replace what the ``mask`` excludes by NaN, in the mean and in the trial halves.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`. Without ``mask`` it is returned as it is.

    Returns
    -------
    xarray.Dataset
    """
    if "mask" not in activity:
        return activity
    names = [name for name in ("activity", "activity_half") if name in activity]
    return activity.assign({name: activity[name].where(activity["mask"]) for name in names})


def instruments_of(activity: xr.Dataset) -> Array | None:
    """``activity_half`` as float32.

    None if there is none, if no sample has both halves, or if there are too many neurons for a copy.
    """
    if "activity_half" not in activity or activity.sizes["neuron"] > MAX_INSTRUMENT_NEURONS:
        return None
    halves = activity["activity_half"].values.astype(np.float32, copy=False)
    return halves if np.isfinite(halves[0] + halves[1]).any() else None


def weights_of(activity: xr.Dataset, weights: object, train: Array) -> Array | None:
    """Weights w of the neurons in the loss sum_i w_i (x_i - prediction_i)².

    "precision" is 1 / noise variance of the neuron's means in the training conditions. Trial halves give this variance
    (`scores.noise_power`). Without them it is 1 / n_trials, as if single trials of all neurons had equal noise.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`.
    weights : array of shape (neuron,), "precision" or None
        None = equal.
    train : bool array of shape (condition,)
        Training conditions.

    Returns
    -------
    array of shape (neuron,), float32, or None
        Weights of mean 1.

    Raises
    ------
    ContractError
        If there is not one finite number ≥ 0 for each neuron, if all are 0, or if "precision" finds neither trial
        halves nor trial numbers.
    """
    neurons = activity.sizes["neuron"]
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "precision":
            raise ContractError(f"weights is {weights!r}. It must be 'precision', one number per neuron, or None.")
        return _with_mean_one(_precision(activity, train))
    try:
        given = np.asarray(weights, float)
    except (TypeError, ValueError):
        raise ContractError(f"weights is {weights!r}. It must be numbers, one for each neuron.") from None
    if given.shape != (neurons,):
        raise ContractError(f"weights has shape {given.shape}. It must have one number for each of {neurons} neurons.")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ContractError("weights has values below 0 or not finite, or all are 0. It must have numbers from 0 up.")
    return _with_mean_one(given)


def _with_mean_one(weights: Array) -> Array:
    return (weights / weights.mean()).astype(np.float32)


def _precision(activity: xr.Dataset, train: Array) -> Array:
    if "activity_half" in activity and "n_trials_half" in activity:
        halves, counts = activity["activity_half"].values[:, train], activity["n_trials_half"].values[:, train]
        noise = noise_power(halves, counts)
        known = np.isfinite(noise)
        number = known.sum(axis=(0, 1))
        variance = np.where(known, noise, 0).sum(axis=(0, 1)) / np.maximum(number, 1)
    elif "n_trials" in activity:
        number = np.asarray(activity["n_trials"].values, float)[train].mean(axis=0)
        variance = 1 / np.maximum(number, MIN_NOISE_SHARE)
    else:
        raise ContractError(
            "weights='precision' needs activity_half and n_trials_half, or n_trials. The activity has none of them. "
            "Give an array of weights, or read with halves=True."
        )
    usable = (number > 0) & (variance > 0)
    middle = np.median(variance[usable]) if usable.any() else 1.0
    return 1 / np.maximum(np.where(number > 0, variance, middle), MIN_NOISE_SHARE * middle)

"""Whether the closed form has told all: innovations that tell nothing of the next ones.

With r = x - m n' F[phi(x)] / N - W q what a network leaves of the activity where the recorded rates drive it, the
innovations are e[t] = r[t] - (1 - alpha) r[t-1]. Where all noise enters inside the network and the model is right they
are independent, and the regression of x on its own filtered rates is the maximum-likelihood estimate: no free run,
which makes less of the data, can know more (prediction-error identification: Ljung, System Identification, 1999,
chapters 9 and 16). Observation noise makes neighbours in time unlike, latents that the network lacks make them alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nwb_lint.model.descents import few_enough
from nwb_lint.model.moments import chunks_of
from nwb_lint.model.regression import features, from_rates, there_of
from nwb_lint.model.rnn import Array, Network
from nwb_lint.model.samples import Samples
from nwb_lint.model.threads import side_by_side

WHITE = 0.0015  # mean autocorrelation over neurons, at most: observation noise of 1/25 of the innovations' sd
LATENTS = 0.05  # that of every latent, of which there are fewer samples


def white(network: Network, samples: Samples) -> bool:
    """Whether innovations of held-out conditions are white at lag 1, surely: the mean over neurons of their
    autocorrelations, and that of every latent's, with the standard error over conditions, below `WHITE` and `LATENTS`.
    False where samples are missing, or some come before the first that was recorded: nobody knows the innovations then.
    """
    samples = few_enough(samples, network.n_neurons, 0)
    x, q, rho = samples.x, samples.q, 1 - samples.alpha
    if len(x) < 2 or x.shape[1] < 3 or q.shape[1] > x.shape[1] or there_of(x) is not None:
        return False
    back = np.linalg.pinv(network.m).T.astype(x.dtype)

    def sums(part: slice) -> list[tuple[Array, Array]]:
        left = x[part] - from_rates(network, features(x[part], samples.alpha, samples.nonlinearity), q[part])
        e = left[:, 1:] - rho * left[:, :-1]
        return [(np.einsum("ctn,ctn->n", v, v), np.einsum("ctn,ctn->cn", v[:, 1:], v[:, :-1])) for v in (e, e @ back)]

    neurons, latents = zip(*side_by_side(sums, chunks_of(*x.shape)), strict=True)
    return _small(_autocorrelation(neurons, x).mean(axis=1), WHITE) and _small(_autocorrelation(latents, x), LATENTS)


def _autocorrelation(parts: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """At lag 1, of every condition and neuron, in units of the neuron's variance over all: (condition, neuron)."""
    squares, products = zip(*parts, strict=True)
    power = np.sum(squares, axis=0) / (len(x) * (x.shape[1] - 1))
    lagged = np.concatenate(products) / (x.shape[1] - 2)
    return np.divide(lagged, power, out=np.zeros_like(lagged), where=power != 0)


def _small(each: Array, bound: float) -> bool:
    """Whether means over conditions are below a bound, with their standard errors."""
    mean, se = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))
    return bool((np.abs(mean) + se <= bound).all())

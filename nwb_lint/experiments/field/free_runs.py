"""Scores of a free run beside data, as benchmarks of dynamical systems reconstruction define them, and a linear model.

Both scores compare long runs by their statistics, since runs of a chaotic or noisy system differ sample by sample.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

Array = np.ndarray

# Of the published code: margin of the bins in standard deviations, what is added to each count, and the number of
# samples that the other divergence is an average over.
BIN_MARGIN, BIN_PRIOR, N_SAMPLES = 0.1, 1e-5, 1000


def binned_divergence(true: Array, found: Array, n_bins: int = 30) -> float:
    """Kullback-Leibler divergence of two histograms of states, for few channels.

    The bins divide the range of the true states, and a margin, into equal parts along each channel. States outside
    do not count. ``BIN_PRIOR`` is added to every count.

    Parameters
    ----------
    true, found : array of shape (time, channel)
        States of the data, and of a run.
    n_bins : int, default=30
        Bins along each channel.

    Returns
    -------
    float
        The divergence, nats; NaN if the run is never inside.

    References
    ----------
    Hess et al., ICML 2023, appendix, and its code; Brenner et al., ICML 2022.
    """
    margin = BIN_MARGIN * true.std(axis=0, ddof=1)
    low, high = true.min(axis=0) - margin, true.max(axis=0) + margin
    cells, total = [], float(n_bins) ** true.shape[1]
    for states in (true, found):
        at = np.floor((states - low) / (high - low) * n_bins)
        inside = at[np.all((at >= 0) & (at < n_bins), axis=1)].astype(np.int64)
        cells.append(inside @ n_bins ** np.arange(true.shape[1]))
    if not len(cells[1]):
        return float("nan")
    used, which = np.unique(np.concatenate(cells), return_inverse=True)
    split = len(cells[0])
    counts = [np.bincount(part, minlength=len(used)) for part in (which[:split], which[split:])]
    p, q = ((count + BIN_PRIOR) / (count.sum() + BIN_PRIOR * total) for count in counts)
    empty = [BIN_PRIOR / (count.sum() + BIN_PRIOR * total) for count in counts]
    return float((p * np.log(p / q)).sum() + (total - len(used)) * empty[0] * np.log(empty[0] / empty[1]))


def smoothed_divergence(true: Array, found: Array, seed: int = 0) -> float:
    """Kullback-Leibler divergence of two clouds of states, each the mean of Gaussians of sd 1 at them.

    It is an average over samples of the first cloud, for many channels.

    Parameters
    ----------
    true, found : array of shape (time, channel)
        States of the data, and of a run, in units of the standard deviation of the data.
    seed : int, default=0
        Seed of the samples.

    Returns
    -------
    float
        The divergence, nats.

    References
    ----------
    Hess et al., ICML 2023; Pals et al., NeurIPS 2024.
    """
    rng = np.random.default_rng(seed)
    at = true[rng.integers(0, len(true), N_SAMPLES)] + rng.standard_normal((N_SAMPLES, true.shape[1]))

    def log_density(centers: Array) -> Array:
        squares = (at**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1) - 2 * at @ centers.T
        return logsumexp(-squares / 2, axis=1) - np.log(len(centers))

    return float((log_density(true) - log_density(found)).mean())


def spectral_distance(true: Array, found: Array, sd: float = 20.0) -> float:
    """Hellinger distance of the power spectra, smoothed and of sum 1, mean over channels.

    Parameters
    ----------
    true, found : array of shape (time, channel)
        Channels of the data, and of a run of the same length.
    sd : float, default=20.0
        Standard deviation of the smoothing, in frequencies of the spectrum.

    Returns
    -------
    float
        From 0 to 1.

    References
    ----------
    Hess et al., ICML 2023; Pals et al., NeurIPS 2024.
    """

    def spectrum(values: Array) -> Array:
        power = np.abs(np.fft.rfft((values - values.mean(axis=0)) / values.std(axis=0), axis=0)) ** 2
        power = gaussian_filter1d(power, sd, axis=0)
        return power / power.sum(axis=0)

    off = np.sqrt(spectrum(true)) - np.sqrt(spectrum(found))
    return float(np.sqrt((off**2).sum(axis=0) / 2).mean())


def linear_run(
    y: Array, n_times: int, skipped: int, rng: np.random.Generator, n_components: int | None = None
) -> tuple[Array, Array]:
    """A free run of an autoregression of order 2 of the channels, or of their first principal components.

    Parameters
    ----------
    y : array of shape (time, channel)
        The data that it is fitted to.
    n_times : int
        Length of the run.
    skipped : int
        Steps before it.
    rng : numpy.random.Generator
        What draws the noise.
    n_components : int or None, default=None
        Number of principal components. None: the channels themselves.

    Returns
    -------
    mean, values : array of shape (time, channel)
        The channels that the run of the components gives, and these with what the components leave out, as noise.
    """
    middle, axes = y.mean(axis=0), np.linalg.svd(y - y.mean(axis=0), full_matrices=False)[2][:n_components]
    z = (y - middle) @ axes.T
    design = np.column_stack([z[1:-1], z[:-2]])
    weights = np.linalg.lstsq(design, z[2:], rcond=None)[0]
    covariance = np.cov((z[2:] - design @ weights).T).reshape(z.shape[1], -1)
    power, turn = np.linalg.eigh(covariance)  # some channels may be exact, such as delayed ones
    noise = rng.standard_normal((skipped + n_times, z.shape[1])) @ (turn * np.sqrt(np.maximum(power, 0))).T
    path = [z[0], z[1]]
    for step in noise:
        path.append(np.concatenate(path[:-3:-1]) @ weights + step)
    mean = np.array(path)[2 + skipped :] @ axes + middle
    sd = (y - middle - z @ axes).std(axis=0)
    return mean, mean + sd * rng.standard_normal(mean.shape)

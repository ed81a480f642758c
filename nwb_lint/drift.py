"""m that changes slowly over the trials of a session: m(k) = m + sum_b s_b(k) m_b, with smooth functions s_b of k.

A fit with drift has ``m``, the mean over its trials, ``m_drift (neuron, rank, basis)``, and ``drift_basis (basis,
condition)``. m, as a tensor of neurons, latents and trials, has a low rank.

References
----------
Pellegrino, Cayco Gajic & Chadwick, NeurIPS 2023: low tensor rank learning of neural dynamics.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import ndtri

from nwb_lint.contract.checks import check_fit
from nwb_lint.contract.columns import recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.options.checks import validated
from nwb_lint.options.single_trials import NetworkOfTrialOptions

Array = np.ndarray
_NUMBERS = "iuf"  # dtype kinds


def has_drift(fit: xr.Dataset) -> bool:
    """Whether m of a fit changes over its trials."""
    return "m_drift" in fit.variables


def drift_functions(numbers: Array, count: int) -> Array:
    """Smooth functions of the trials, (basis, trial): cosines, of mean 0 and mean square 1, and orthogonal.

    Parameters
    ----------
    numbers : array of shape (trial,)
        Number of each trial in the session.
    count : int
        Functions; function b is a cosine of b half periods over the session.

    Returns
    -------
    array of shape (basis, trial)
    """
    first, last = numbers.min(), numbers.max()
    place = (numbers - first + 0.5) / (last - first + 1)
    waves = np.cos(np.pi * place[:, None] * np.arange(count + 1))
    basis, triangle = np.linalg.qr(waves)  # the first one is constant
    return (basis * np.sign(np.diag(triangle)) * np.sqrt(len(numbers))).T[1:]


def as_numbers(labels: Array) -> Array | None:
    """Labels of trials as numbers; None where they are texts without a number."""
    if labels.dtype.kind in _NUMBERS:
        return labels.astype(float)
    try:
        return labels.astype(str).astype(float)
    except ValueError:
        return None


def functions_at(fit: xr.Dataset, labels: Array) -> Array:
    """The smooth functions of a fit at some trials, (trial, basis); NaN where a trial lies outside of its session.

    A trial is found by its label. The functions at a trial between those of the fit lie on a straight line between its
    neighbors, by the numbers of the trials.
    """
    own = fit["condition"].values.astype(str)
    basis = fit["drift_basis"].transpose("condition", "basis").values
    place = {label: k for k, label in enumerate(own)}
    index = np.array([place.get(label, -1) for label in labels.astype(str)], int)
    found = np.where(index[:, None] >= 0, basis[index], np.nan)
    numbers, known = as_numbers(labels), as_numbers(own)
    if (index >= 0).all() or numbers is None or known is None:
        return found
    order = np.argsort(known)
    for b in range(basis.shape[1]):
        between = np.interp(numbers, known[order], basis[order, b], np.nan, np.nan)
        found[:, b] = np.where(index >= 0, found[:, b], between)
    return found


def loadings_of_conditions(fit: xr.Dataset, conditions: xr.Dataset) -> Array:
    """m of each condition, (condition, neuron, rank); the mean m for one that is no trial of the session."""
    m, n_conditions = fit["m"].values, conditions.sizes["condition"]
    if "condition" not in conditions.coords:
        return np.repeat(m[None], n_conditions, axis=0)
    basis = np.nan_to_num(functions_at(fit, conditions["condition"].values))
    found: Array = m + np.einsum("kb,irb->kir", basis, fit["m_drift"].values)
    return found


def loadings_and_errors(fit: xr.Dataset) -> tuple[Array, Array]:
    """m of each trial of a fit with drift and its standard error, (condition, neuron, rank); NaN for hidden units.

    The error is that of the regression of each neuron on the latents, ``observation_cov``.
    """
    m, rank = loadings_of_conditions(fit, fit), fit.sizes["rank"]
    weight = np.column_stack([np.ones(fit.sizes["condition"]), fit["drift_basis"].values.T])  # 1, s_1, s_2, …
    first = fit.sizes["coefficient"] - rank * weight.shape[1]
    error = np.full(m.shape, np.nan)
    for r in range(rank):
        own = first + r + rank * np.arange(weight.shape[1])
        part = fit["observation_cov"].values[:, own][:, :, own]
        error[..., r] = np.sqrt(np.maximum(np.einsum("ka,iab,kb->ki", weight, part, weight), 0))
    error[:, ~recorded_of(fit)] = np.nan
    return m, error


def loading_intervals(fit: xr.Dataset, level: float) -> tuple[Array, Array, Array]:
    """m of each trial and the bounds of its interval, (condition, neuron, rank)."""
    m, error = loadings_and_errors(fit)
    width = float(ndtri(0.5 + level / 2)) * error
    return m, m - width, m + width


@validated(NetworkOfTrialOptions)
def network_of_trial(fit: xr.Dataset, trial: int | str) -> xr.Dataset:
    """The network of one trial, from a fit whose m drifts over trials.

        m(k) = m + sum_b s_b(k) m_b

    It is a fit without drift, for analyses of the dynamics at that time of the session: fixed points, flow,
    connectivity. Those of the fit itself are of its mean m.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials` with ``drift``.
    trial : int or str
        Label of the trial, as in ``fit["condition"]``.

    Returns
    -------
    xarray.Dataset
        The fit with m of this trial, without ``m_drift`` and ``drift_basis``, and with this trial as its one condition.
        ``observation_cov`` is that of the level, I and this m.

    Raises
    ------
    ContractError
        If m of the fit does not drift, or there is no such trial.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> fit = fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=3, drift=1)
    >>> network_of_trial(fit, 3)["m"].dims
    ('neuron', 'rank')
    """
    check_fit(fit)
    if not has_drift(fit):
        raise ContractError("m of the fit is constant. There is one network for all trials. Fit with drift=1 or more.")
    labels = fit["condition"].values.astype(str)
    here, numbers = np.flatnonzero(labels == str(trial)), as_numbers(labels)
    if not len(here) and isinstance(trial, int) and numbers is not None:  # trial 3 may be called "3.0"
        here = np.flatnonzero(numbers == trial)
    if not len(here):
        raise ContractError(f"The fit has no trial {trial!r}. Its trials are {labels[0]} to {labels[-1]}. Choose one.")
    basis = fit["drift_basis"].values[:, here[0]]
    out = fit.isel(condition=here[:1])
    out["m"] = ("neuron", "rank"), loadings_of_conditions(fit, out)[0], fit["m"].attrs
    start = fit["initial_mean"].values.mean(axis=0)
    out["initial_activation"] = ("neuron",), fit["bias"].values + out["m"].values @ start
    out = out.drop_vars(["m_drift", "drift_basis"])
    if "observation_cov" in fit:
        rank = fit.sizes["rank"]
        kept = fit.sizes["coefficient"] - rank * len(basis)
        to = np.zeros((kept, fit.sizes["coefficient"]))
        to[:, :kept] = np.eye(kept)
        to[kept - rank :, kept:] = np.kron(basis, np.eye(rank))
        dims, cov = fit["observation_cov"].dims, to @ fit["observation_cov"].values @ to.T
        out = out.drop_dims(["coefficient", "coefficient_from"]).assign(observation_cov=(dims, cov))
    return out

"""Connectivity of a fit: J, its part that moves the dynamics, and the distribution of weights."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import vectors_of
from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import coords_along, named_inputs, recorded_of
from nwb_lint.model.areas.blocks import blocks_of, effective_n_of
from nwb_lint.options.checks import validated

FEWEST_WEIGHTS = 20  # with fewer, the normal approximation of the kurtosis test does not hold


@validated()
def connectivity(fit: xr.Dataset, effective: bool = True) -> xr.Dataset:
    """Effective connectivity m (P n)' / N of a fit, or J = m n' / N, and the overlaps of its vectors.

    P projects on span(m, I). In the noise-free dynamics x stays in this span, so only P n acts near the linear part of
    tanh. Many n give the same dynamics, so read P n and not n. A fit with ``rank=None`` has no such span: J is
    returned. In a fit with areas, P projects within each area, on the span of m and I there.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    effective : bool, default=True
        Return the effective connectivity, or else J.

    Returns
    -------
    xarray.Dataset
        Kind "connectivity": ``connectivity (neuron, neuron_from)``, rows postsynaptic, columns presynaptic. With m and
        n also ``n_effective (neuron, rank)``, P n; ``overlap_m (rank, rank_from)``, n' m / N; and ``overlap_input
        (rank, input)``, n' I / N. These overlaps set the dynamics of the latents. All are dimensionless. The attribute
        ``effective`` says which connectivity it is.

    Raises
    ------
    ContractError
        If ``fit`` is not a fit.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2 and appendix.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> connectivity(mock_fit())["connectivity"].dims
    ('neuron', 'neuron_from')
    """
    check_fit(fit)
    out = xr.Dataset(coords=coords_along(fit, "neuron", kind="connectivity")).assign_coords(
        neuron_from=fit["neuron"].values
    )
    out.attrs = {"kind": "connectivity", "effective": int(effective and "J" not in fit)}
    if "J" in fit:
        out["connectivity"] = ("neuron", "neuron_from"), fit["J"].values
    else:
        m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
        projected = effective_n_of(blocks_of(fit), m, n, weights)
        out["connectivity"] = ("neuron", "neuron_from"), m @ (projected if effective else n).T / len(m)
        out["n_effective"] = ("neuron", "rank"), projected
        out["overlap_m"] = ("rank", "rank_from"), n.T @ m / len(m)
        out["overlap_input"] = ("rank", "input"), n.T @ weights / len(m)
        out = out.assign_coords(named_inputs(fit))
    check_result(out, "connectivity")
    return out


@validated()
def weight_statistics(fit: xr.Dataset) -> xr.Dataset:
    """Moments of the weights of every connectivity vector, and a test for tails heavier than normal.

    The test is D'Agostino's test of kurtosis, one-sided, with the transform of Anscombe & Glynn. Only heavier tails
    make it significant. A test against the normal distribution as a whole would also react to skewed or bimodal
    weights. The test takes the entries of a vector as independent.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.

    Returns
    -------
    xarray.Dataset
        Kind "weight_statistics", of the recorded neurons: ``mean``, ``sd``, ``skewness``, ``kurtosis`` (excess: 0 for a
        normal distribution) and ``heavy_tail_p (vector)``, NaN below 20 weights; ``weight (vector, neuron)``. Vectors
        are "m k", "n k" (its effective part, as in `connectivity`) and "I input". With ``rank=None`` they are "J" (all
        entries; its ``weight`` is NaN) and "I input".

    Raises
    ------
    ContractError
        If ``fit`` is not a fit.

    References
    ----------
    Anscombe & Glynn, Biometrika 1983.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> weight_statistics(mock_fit())["vector"].values.tolist()
    ['m 1', 'n 1', 'I stimulus']
    """
    from scipy import stats

    check_fit(fit)
    recorded = recorded_of(fit)
    rows: dict[str, np.ndarray] = {}
    order = ["input_weights"]
    if "J" in fit:
        rows["J"] = fit["J"].values[np.ix_(recorded, recorded)].ravel()
    else:
        order = ["m", "n", *order]
    names, columns = vectors_of(fit, order)
    rows |= dict(zip(names, columns[recorded].T, strict=True))
    weight = [np.full(recorded.sum(), np.nan) if name == "J" else row for name, row in rows.items()]
    out = (
        xr.Dataset(coords=coords_along(fit, "neuron", kind="weight_statistics"))
        .isel(neuron=recorded)
        .assign_coords(vector=list(rows))
    )
    out.attrs = {"kind": "weight_statistics"}
    out["weight"] = ("vector", "neuron"), np.array(weight)
    varied = {name: np.ptp(row) > 0 for name, row in rows.items()}
    for name, statistic in (("mean", np.mean), ("sd", np.std)):
        out[name] = ("vector",), np.array([statistic(row) for row in rows.values()])
    for name, moment in (("skewness", stats.skew), ("kurtosis", stats.kurtosis)):
        out[name] = ("vector",), np.array([moment(row) if varied[k] else np.nan for k, row in rows.items()])
    tested = {name: varied[name] and len(row) >= FEWEST_WEIGHTS for name, row in rows.items()}
    p = [stats.kurtosistest(row, alternative="greater").pvalue if tested[k] else np.nan for k, row in rows.items()]
    out["heavy_tail_p"] = ("vector",), np.array(p)
    check_result(out, "weight_statistics")
    return out

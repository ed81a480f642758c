"""Connectivity of a fit: J, and the part of it that moves the dynamics."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import vectors_of
from nwb_lint.contract import check_fit, check_result, coords_along, named_inputs, recorded_of
from nwb_lint.model.network import effective_n

FEWEST = 20  # below which the kurtosis test's normal approximation does not hold


def connectivity(fit: xr.Dataset, effective: bool = True) -> xr.Dataset:
    """Connectivity matrix J = m n' / N, or effective connectivity J_eff = m (P n)' / N, and the overlaps.

    P projects on span(m, I). In the noise-free dynamics x stays in that span, so for tanh near its linear part only
    P n acts; many n give the same dynamics, so never read raw n. For rank=None there is no such span, and J itself is
    returned, whatever ``effective``.

    Returns: a result of kind "connectivity": connectivity (neuron, neuron_from), rows = post, columns = pre;
        n_effective (neuron, rank); overlap_m = n' m / N (rank, rank_from) and overlap_input = n' I / N (rank, input),
        the numbers that set the latent dynamics (the latter three only where there are m and n); attrs["effective"].

    Raises: ContractError for a Dataset that is not a fit.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2 and appendix.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> connectivity(mock_fit())["connectivity"].dims
        ('neuron', 'neuron_from')
    """
    check_fit(fit)
    out = xr.Dataset(coords=coords_along(fit, "neuron")).assign_coords(neuron_from=fit["neuron"].values)
    out.attrs = {"kind": "connectivity", "effective": int(effective and "J" not in fit)}
    if "J" in fit:
        out["connectivity"] = ("neuron", "neuron_from"), fit["J"].values
    else:
        m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
        projected = effective_n(m, n, weights)
        out["connectivity"] = ("neuron", "neuron_from"), m @ (projected if effective else n).T / len(m)
        out["n_effective"] = ("neuron", "rank"), projected
        out["overlap_m"] = ("rank", "rank_from"), n.T @ m / len(m)
        out["overlap_input"] = ("rank", "input"), n.T @ weights / len(m)
        out = out.assign_coords(named_inputs(fit))
    check_result(out, "connectivity")
    return out


def weight_statistics(fit: xr.Dataset) -> xr.Dataset:
    """How the weights of every connectivity vector are distributed, and whether their tails are heavier than normal.

    heavy_tail_p: D'Agostino's kurtosis test (Anscombe & Glynn's transform), one-sided. Its alternative is the question;
    a test against the normal as a whole, such as Anderson and Darling's, also rejects for skewed or bimodal weights.
    NaN below 20 weights. Entries of one vector are taken as independent.

    Returns: a result of kind "weight_statistics", over recorded neurons: mean, sd, skewness, kurtosis (excess: 0 where
        normal), heavy_tail_p (vector); weight (vector, neuron). Vectors are "m k", "n k" (the effective part, see
        `connectivity`), "I input"; or, with rank=None, "J" (all entries; its weight is NaN) and "I input".

    Raises: ContractError for a Dataset that is not a fit.

    Source: Anscombe & Glynn, Biometrika 1983.

    Example:
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
    out = xr.Dataset(coords=coords_along(fit, "neuron")).isel(neuron=recorded).assign_coords(vector=list(rows))
    out.attrs = {"kind": "weight_statistics"}
    out["weight"] = ("vector", "neuron"), np.array(weight)
    varied = {name: np.ptp(row) > 0 for name, row in rows.items()}
    for name, statistic in (("mean", np.mean), ("sd", np.std)):
        out[name] = ("vector",), np.array([statistic(row) for row in rows.values()])
    for name, moment in (("skewness", stats.skew), ("kurtosis", stats.kurtosis)):
        out[name] = ("vector",), np.array([moment(row) if varied[k] else np.nan for k, row in rows.items()])
    out["heavy_tail_p"] = (
        ("vector",),
        np.array(
            [
                stats.kurtosistest(row, alternative="greater").pvalue if len(row) >= FEWEST and varied[k] else np.nan
                for k, row in rows.items()
            ]
        ),
    )
    check_result(out, "weight_statistics")
    return out

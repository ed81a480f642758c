"""Connectivity of a fit: J, and the part of it that moves the dynamics."""

from __future__ import annotations

import xarray as xr

from nwb_lint.contract import check_fit
from nwb_lint.model.rnn import effective_n


def connectivity(fit: xr.Dataset, effective: bool = True) -> xr.Dataset:
    """Connectivity matrix J = m n' / N, or effective connectivity J_eff = m (P n)' / N, and the overlaps.

    P projects on span(m, I). In the noise-free dynamics x stays in that span, so for tanh near its linear part only
    P n acts; many n give the same dynamics, so never read raw n. For rank=None, J_eff = J P with the span of I and of
    the activity's directions left out: J itself is returned.

    Returns: connectivity (neuron, neuron_from), rows = post, columns = pre; n_effective (neuron, rank);
        overlap_m = n' m / N (rank, rank_from) and overlap_input = n' I / N (rank, input), the numbers that set the
        latent dynamics (the latter three only where there are m and n).

    Raises: ContractError for a Dataset that is not a fit.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2 and appendix.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> connectivity(mock_fit())["connectivity"].dims
        ('neuron', 'neuron_from')
    """
    check_fit(fit)
    labels = fit["neuron"].values
    if "J" in fit:
        j = xr.DataArray(fit["J"].values, dims=("neuron", "neuron_from"), coords={"neuron": labels})
        return xr.Dataset({"connectivity": j}).assign_coords(neuron_from=labels)
    m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
    size = len(m)
    projected = effective_n(m, n, weights)
    right = projected if effective else n
    out = xr.Dataset(coords={"neuron": labels, "neuron_from": labels})
    out["connectivity"] = ("neuron", "neuron_from"), m @ right.T / size
    out["n_effective"] = ("neuron", "rank"), projected
    out["overlap_m"] = ("rank", "rank_from"), n.T @ m / size
    out["overlap_input"] = ("rank", "input"), n.T @ weights / size
    if "input_name" in fit.coords:
        out = out.assign_coords(input_name=("input", fit["input_name"].values))
    out.attrs["effective"] = int(effective)
    return out

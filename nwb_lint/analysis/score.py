"""How well a fit predicts an activity: R² of all, of each neuron and of each condition, and the ceiling."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import data_of, positions, warn_of_scale
from nwb_lint.contract.checks import check_activity, check_fit, check_result
from nwb_lint.contract.columns import coords_along, held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.scores import ceiling, median_over, noise_of, r_squared, reference_of
from nwb_lint.model.simulate import simulate
from nwb_lint.options.analyses import ScoreOptions
from nwb_lint.options.checks import validated
from nwb_lint.prepare import conditions_mask


@validated(ScoreOptions)
def score(fit: xr.Dataset, activity: xr.Dataset, *, conditions: object = None) -> xr.Dataset:
    """R² of the free-running network, for an activity that was prepared in the same way.

    R² = 1 - Σ (y - prediction)² / Σ (y - ybar)², over the observed samples. ybar is the mean of each neuron over the
    *training* conditions of ``activity``: those that the fit has, by label, and did not hold out. If there are none,
    ybar is the mean over all conditions.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    activity : xarray.Dataset
        From `prepare`: ``activity (condition, time, neuron)``, dimensionless, with its inputs. Of a fit of single
        trials also the trials: their activity is the posterior mean of x. Neurons are matched by label. A sample that
        is NaN, or False in ``mask``, does not count.
    conditions : sequence or None, default=None
        Labels, positions or a boolean mask of the conditions to score. None scores all.

    Returns
    -------
    xarray.Dataset
        Kind "scores": ``r2``; ``r2_median`` over neurons; ``r2_ceiling``, NaN without halves of the trials;
        ``r2_neuron (neuron)``; ``r2_condition (condition)``. It warns if the scale of the activity is
        not that of the fit.

    Raises
    ------
    ContractError
        If the fit does not have all the neurons, no condition was chosen, or the activity does not vary.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> float(score(mock_fit(), mock_activity())["r2"]) <= 1
    True
    """
    check_fit(fit)
    activity = data_of(fit, activity)
    check_activity(activity)
    activity = unmasked(activity)
    index = positions(fit, activity)
    warn_of_scale(fit, activity, index)
    prediction = simulate(fit, activity)["activity"].values[..., index]
    chosen = conditions_mask(activity, conditions)
    y = activity["activity"].values
    reference = reference_of(y, _trained_on(fit, activity))
    total, each = r_squared(y[chosen], prediction[chosen], reference)
    if np.isfinite(prediction[chosen]).all() and np.isnan(each).all():
        raise ContractError(
            "No neuron differs from its mean over the training conditions in a condition that is scored. R² is the "
            "share of such variance that is explained, and there is none. Score other conditions."
        )
    by_condition = [r_squared(y[[k]], prediction[[k]], reference)[0] for k in np.flatnonzero(chosen)]
    top, noise = float("nan"), noise_of(activity)
    if noise is not None:
        top = ceiling(y[chosen], noise[chosen], reference)
    out = xr.Dataset({"r2": total, "r2_ceiling": top}, attrs={"kind": "scores"})
    out["r2_median"] = (), float(median_over(each[None])[0])
    out["r2_neuron"] = ("neuron",), each
    out["r2_condition"] = ("condition",), np.array(by_condition)
    out = out.assign_coords(coords_along(activity.isel(condition=chosen), "neuron", "condition", kind="scores"))
    check_result(out, "scores")
    return out


def _trained_on(fit: xr.Dataset, activity: xr.Dataset) -> np.ndarray:
    """Boolean (condition): conditions of the activity that the fit was trained on."""
    if "condition" not in activity.coords or "condition" not in fit.coords:
        same = activity.sizes["condition"] == fit.sizes["condition"]
        return ~held_out_of(fit) if same else np.zeros(activity.sizes["condition"], bool)
    trained = fit["condition"].values[~held_out_of(fit)].astype(str)
    return np.isin(activity["condition"].values.astype(str), trained)

"""A behavioral readout of activity: fitted to a column of the conditions, cross-validated."""

from __future__ import annotations

import numpy as np
import xarray as xr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nwb_lint.contract import check_result, column_of, coords_along, missing_in, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.prepare import times_in

_STRENGTHS = np.logspace(-4, 4, 9)


def fit_readout(
    activity: xr.Dataset,
    column: str,
    *,
    window_s: tuple[float, float] | None = None,
    nonlinearity: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> xr.Dataset:
    """Weights that read a column of the conditions, such as the choice, from the rates in a window.

    z = readout . phi(x) / N + intercept, phi(x) averaged over what is observed in the window, of the N recorded
    neurons. Two values: logistic regression, z > 0 for the larger one; more numbers: ridge regression, z the number
    itself. Penalties are chosen inside each fold.

    Args:
        activity: activity or activity_pred (condition, time, neuron) and the column, as `prepare` and `fit_lint` give.
        window_s: None = all times. nonlinearity: None = the fit's own, else tanh.

    Returns: a result of kind "readout": readout (neuron), intercept, score (accuracy, or R², of what the other folds
        say of each); attrs column, kind_of_readout ("logistic" or "ridge"), metric, negative and positive (the two
        values), window_s.

    Raises: ContractError for an unknown column, one of a single value, more than two texts, or with conditions that
        have none, or too few conditions.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> fit_readout(mock_activity(), "stimulus", folds=4).attrs["metric"]
        'R2'
    """
    name = next((n for n in ("activity", "activity_pred") if n in activity), None)
    if name is None:
        raise ContractError("the Dataset has neither activity nor activity_pred; give an activity or a fit.")
    values = column_of(activity, column)
    if lacking := int(missing_in(values).sum()):
        raise ContractError(
            f"{column} has no value in {lacking} of {len(values)} conditions; leave them out (isel), or name another."
        )
    levels = np.unique(values)
    two = len(levels) == 2
    if len(levels) < 2 or (not two and values.dtype.kind not in "fiu"):
        raise ContractError(f"{column} has {len(levels)} values; a readout needs two of them, or numbers.")
    activity = unmasked(activity).isel(neuron=recorded_of(activity))
    x = activity[name].transpose("condition", "time", "neuron").values
    x = x[:, times_in(activity["time"].values, window_s)]
    seen = np.isfinite(x)
    if not seen.any(axis=1).all():
        raise ContractError("some neuron is not observed in some condition of the window; a readout needs all of them.")
    phi = nonlinearity_of(nonlinearity or activity.attrs.get("nonlinearity", "tanh")).phi
    rates = np.where(seen, phi(np.where(seen, x, 0)), 0).sum(axis=1, dtype=float) / seen.sum(axis=1)
    y = (values == levels[1]).astype(int) if two else values.astype(float)
    fewest = int(np.bincount(y).min()) if two else len(y)
    if folds < 2 or fewest < folds:
        raise ContractError(f"{folds} folds were asked of {fewest} conditions (of the rarer value); use 2 to {fewest}.")
    model, splits = _model(two, folds, fewest, seed)
    predicted = cross_val_predict(model, rates, y, cv=splits)
    score = accuracy_score(y, predicted) if two else r2_score(y, predicted)
    weights, intercept = _weights(model.fit(rates, y))
    out = xr.Dataset(coords=coords_along(activity, "neuron"))
    out["readout"] = ("neuron",), weights * rates.shape[1]
    out["intercept"], out["score"] = intercept, float(score)
    out.attrs = {"kind": "readout", "column": column, "kind_of_readout": "logistic" if two else "ridge"}
    out.attrs |= {"metric": "accuracy" if two else "R2", "folds": folds, "seed": seed}
    if two:
        out.attrs |= {"negative": str(levels[0]), "positive": str(levels[1])}
    if window_s is not None:
        out.attrs["window_s"] = [float(window_s[0]), float(window_s[1])]
    check_result(out, "readout")
    return out


def _model(two: bool, folds: int, fewest: int, seed: int):
    """The regression with its penalty chosen inside, and the outer folds."""
    if not two:
        return make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS)), KFold(folds, shuffle=True, random_state=seed)
    # inside an outer fold this many of the rarer value are left
    inner = StratifiedKFold(max(2, min(3, fewest - -(-fewest // folds))), shuffle=True, random_state=seed)
    strengths = {"C": 1 / _STRENGTHS}
    chosen = GridSearchCV(LogisticRegression(max_iter=2000), strengths, scoring="neg_log_loss", cv=inner)
    return make_pipeline(StandardScaler(), chosen), StratifiedKFold(folds, shuffle=True, random_state=seed)


def _weights(model) -> tuple[Array, float]:
    """Weights and intercept on the rates themselves, the scaling undone."""
    scaler, regression = model[0], getattr(model[-1], "best_estimator_", model[-1])
    weights = np.ravel(regression.coef_) / scaler.scale_
    return weights, float(np.ravel(regression.intercept_)[0] - weights @ scaler.mean_)

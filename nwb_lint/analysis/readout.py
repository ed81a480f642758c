"""A behavioral readout of activity: fitted to a column of the conditions, and cross-validated."""

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
from nwb_lint.options import ReadoutOptions, validated
from nwb_lint.prepare import times_in

_STRENGTHS = np.logspace(-4, 4, 9)


@validated(ReadoutOptions)
def fit_readout(
    activity: xr.Dataset,
    column: str,
    *,
    window_s: tuple[float, float] | None = None,
    nonlinearity: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> xr.Dataset:
    """Fit weights that read a column of the conditions, such as the choice, from the rates in a window.

    z = readout · phi(x) / N + intercept, over the N recorded neurons. phi(x) is averaged over the observed samples of
    the window. A column of two values is fitted by logistic regression: z > 0 stands for the larger value. A column of
    numbers is fitted by ridge regression: z is the number. The penalty is chosen inside each fold.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`, or a fit: ``activity`` or ``activity_pred (condition, time, neuron)``, dimensionless, with the
        column on ``condition``.
    column : str
        Column to read.
    window_s : tuple of float or None, default=None
        Start and end of the window, s. None takes all times.
    nonlinearity : str or None, default=None
        phi. None takes that of the fit, or else tanh.
    folds : int, default=5
        Number of folds of the cross-validation, at least 2.
    seed : int, default=0
        Seed of the folds.

    Returns
    -------
    xarray.Dataset
        Kind "readout": ``readout (neuron)``, ``intercept``, and ``score``, the cross-validated accuracy or R², all
        dimensionless. Attributes: column, kind_of_readout ("logistic" or "ridge"), metric, negative and positive (the
        two values), window_s.

    Raises
    ------
    ContractError
        If the column is unknown, has a missing value, has one value, or has more than two texts; or if the conditions
        are too few for the folds.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> fit_readout(mock_activity(), "stimulus", folds=4).attrs["metric"]
    'R2'
    """
    name = next((n for n in ("activity", "activity_pred") if n in activity), None)
    if name is None:
        raise ContractError("The Dataset has neither activity nor activity_pred. Give an activity or a fit.")
    values = column_of(activity, column)
    if lacking := int(missing_in(values).sum()):
        raise ContractError(
            f"{column} has no value in {lacking} of {len(values)} conditions. Leave these out (isel), or name another "
            "column."
        )
    levels = np.unique(values)
    two = len(levels) == 2
    if len(levels) < 2 or (not two and values.dtype.kind not in "fiu"):
        raise ContractError(f"{column} has {len(levels)} values. A readout needs two values, or numbers that vary.")
    activity = unmasked(activity).isel(neuron=recorded_of(activity))
    x = activity[name].transpose("condition", "time", "neuron").values
    x = x[:, times_in(activity["time"].values, window_s)]
    seen = np.isfinite(x)
    if not seen.any(axis=1).all():
        raise ContractError(
            "A neuron is not observed in the window of a condition. A readout needs every neuron in every condition. "
            "Leave the neuron or the condition out (isel)."
        )
    phi = nonlinearity_of(nonlinearity or activity.attrs.get("nonlinearity", "tanh")).phi
    rates = np.where(seen, phi(np.where(seen, x, 0)), 0).sum(axis=1, dtype=float) / seen.sum(axis=1)
    y = (values == levels[1]).astype(int) if two else values.astype(float)
    fewest = int(np.bincount(y).min()) if two else len(y)
    if fewest < folds:
        raise ContractError(f"folds is {folds}. The rarer value has {fewest} conditions. Use 2 to {fewest} folds.")
    model, splits = _model(two, folds, fewest, seed)
    predicted = cross_val_predict(model, rates, y, cv=splits)
    score = accuracy_score(y, predicted) if two else r2_score(y, predicted)
    weights, intercept = _weights(model.fit(rates, y))
    out = xr.Dataset(coords=coords_along(activity, "neuron", kind="readout"))
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
    """The regression, which chooses its penalty, and the outer folds."""
    if not two:
        return make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS)), KFold(folds, shuffle=True, random_state=seed)
    # as many inner folds as an outer fold leaves conditions of the rarer value
    inner = StratifiedKFold(max(2, min(3, fewest - -(-fewest // folds))), shuffle=True, random_state=seed)
    strengths = {"C": 1 / _STRENGTHS}
    chosen = GridSearchCV(LogisticRegression(max_iter=2000), strengths, scoring=_log_likelihood, cv=inner)
    return make_pipeline(StandardScaler(), chosen), StratifiedKFold(folds, shuffle=True, random_state=seed)


def _log_likelihood(model, rates: Array, y: Array) -> float:
    """What scikit-learn's "neg_log_loss" is, whose checks take as long as the fits."""
    chosen = model.predict_proba(rates)[np.arange(len(y)), y]
    least = np.finfo(chosen.dtype).eps
    return float(np.log(np.clip(chosen, least, 1 - least)).mean())


def _weights(model) -> tuple[Array, float]:
    """Weights and intercept on the rates, without the scaling."""
    scaler, regression = model[0], getattr(model[-1], "best_estimator_", model[-1])
    weights = np.ravel(regression.coef_) / scaler.scale_
    return weights, float(np.ravel(regression.intercept_)[0] - weights @ scaler.mean_)

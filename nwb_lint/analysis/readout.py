"""Behavior that is read from activity or latents, on held-out data."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nwb_lint.analysis.latents import latents
from nwb_lint.behavior import (
    Behavior,
    Reading,
    behavior_of,
    interval,
    losses,
    predicted,
    readout_coords,
    reference_losses,
    scores_of_trials,
)
from nwb_lint.contract.checks import check_dataset, check_fit, check_result
from nwb_lint.contract.columns import column_of, coords_along, recorded_of
from nwb_lint.contract.values import missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.options.analyses import ReadoutOptions
from nwb_lint.options.checks import validated
from nwb_lint.options.single_trials import DecodingOptions
from nwb_lint.prepare import condition_labels, times_in
from nwb_lint.statespace.data import condition_coords, system_of, trials_for
from nwb_lint.statespace.inference import posterior_of

_STRENGTHS = np.logspace(-4, 4, 9)

# Penalties and widths, bins, that the plain decoder chooses from, and the parts of the training trials that choose.
# Convention: the ranges hold most that were chosen on simulated networks.
_PLAIN_STRENGTHS, _PLAIN_WIDTHS, _PLAIN_FOLDS = np.logspace(-1, 5, 7), (1.0, 2.0, 4.0, 8.0, 16.0), 4
DECODERS = ["latents", "plain"]
_OF_READOUTS = ("readout", "readout_negative", "readout_positive")  # coordinates that a decoding keeps


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


# ---------------------------------------------------------------------------------------------------------------------
# Decoding from latents, beside a plain decoder


@validated(DecodingOptions)
def decode_behavior(fit: xr.Dataset, data: xr.Dataset, *, causal: bool = True, level: float = 0.9) -> xr.Dataset:
    """Decode behavior from the latents that the neurons give, beside a plain decoder, on trials that neither has seen.

    The latents of single trials are those of the posterior given the neurons until each time. Of means they are the
    activity of each bin on m, without the inputs. The plain decoder is ridge regression, or for choices logistic
    regression, on smoothed counts (or activity): a decaying exponential of the past, or with ``causal=False`` a
    Gaussian. Its width and penalty are chosen by cross-validation on the training trials.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials` or `fit_lint`, of data with behavior.
    data : xarray.Dataset
        The trials or conditions of the fit with their behavior, and perhaps others. Those that the fit was trained on
        train the plain decoder, all others are scored.
    causal : bool, default=True
        Whether only samples until each time are used. Latents of means have no past.
    level : float, default=0.9
        Probability of the intervals.

    Returns
    -------
    xarray.Dataset
        A result of kind "decoding", whose conditions are the trials: ``behavior``, ``decoded``, ``decoded_low``,
        ``decoded_high`` and ``decoded_plain (condition, time, readout)``, in the unit of the behavior; of choices
        probabilities. Intervals of numbers contain the number, those of choices the probability; they allow for the
        uncertainty of the readout and, of single trials, of the latents. Samples of means in which too few neurons are
        observed have no latents: there ``decoded`` is NaN, and they are not scored. On the trials with ``held_out``:
        ``score`` and ``score_sem (decoder, readout)``, the share of the loss of the training mean that is explained
        (R² of numbers, 1 - log loss / log loss of their share of choices) and its standard error over the trials that
        have this behavior; ``score_difference`` and its paired standard error (readout), latents minus plain; of
        choices ``bits`` an observation above their share, ``accuracy`` and ``auc`` of the mean over the window
        (decoder, readout); of numbers ``coverage (readout)``, the share within their interval.
        ``plain_width_s`` and ``plain_ridge (readout)`` are what the plain decoder chose.

    Raises
    ------
    ContractError
        If the fit has no readouts, the data have other ones or other behavior in a trial of the fit, or they lack
        training trials or others.

    Examples
    --------
    >>> from nwb_lint import Readout, fit_trials, prepare
    >>> from nwb_lint.testing import mock_trials
    >>> trials = prepare(mock_trials(n_trials=40), inputs=[], readouts=[Readout("choice", column="choice")])
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3, test_size=10)
    >>> decode_behavior(fit, trials)["score"].dims
    ('decoder', 'readout')
    """
    check_fit(fit)
    check_dataset(data, "data", "Call prepare(..., readouts=)")
    train = _trained_on(fit, data)
    single = "trial" in data.dims
    behavior = behavior_of(data, train, numbers=not single)
    design, spread = _of_trials(fit, data, causal) if single else _of_means(fit, data)
    choice = behavior.choice
    weights = [fit["readout_weights"].values] + ([] if single else [fit["readout_input_weights"].values])
    noise = np.nan_to_num(fit["readout_noise"].values, nan=1.0)
    reading = Reading(np.column_stack([fit["readout_level"].values, *weights]), noise, fit["readout_cov"].values)
    decoded, bounds = predicted(design, reading, choice), interval(design, reading, choice, spread, level)
    activity = _smoothed_activity(data, train, causal)
    plain, width, ridge = _plain(activity, behavior, train)
    coords = condition_coords(data) if single else coords_along(data, "condition", "time")
    coords = coords_along(xr.Dataset(coords=coords), "condition", "time", kind="decoding")
    own = {name: one for name, one in readout_coords(data).items() if name in _OF_READOUTS}
    out = xr.Dataset(coords=coords | own | {"decoder": DECODERS})
    out = out.assign_coords(held_out=("condition", ~train))
    dims = "condition", "time", "readout"
    observed = data["behavior"].transpose(..., "time", "readout").values.astype(float)
    values = observed, decoded, *bounds, behavior.mean + behavior.scale * plain
    for name, one in zip(("behavior", "decoded", "decoded_low", "decoded_high", "decoded_plain"), values, strict=True):
        out[name] = dims, one
    both = (decoded - behavior.mean) / behavior.scale, plain
    out = _with_decoding_scores(out, both, behavior, train)
    out["plain_width_s"], out["plain_ridge"] = ("readout", width * float(fit.attrs["dt_s"])), ("readout", ridge)
    out.attrs = {"kind": "decoding", "causal": int(causal), "level": float(level)}
    check_result(out, "decoding")
    return out


def _trained_on(fit: xr.Dataset, data: xr.Dataset) -> Array:
    """Which trials or conditions of the data the fit was trained on."""
    if "readout_weights" not in fit:
        raise ContractError("The fit has no readouts. Behavior is read by them. Fit data from prepare(..., readouts=).")
    names = data["readout"].values.tolist() if "behavior" in data else []
    if names != fit["readout"].values.tolist():
        raise ContractError(
            f"The data have the readouts {', '.join(names) or 'none'}, the fit has "
            f"{', '.join(fit['readout'].values.tolist())}. Prepare the data with the readouts of the fit."
        )
    dim = "trial" if "trial" in data.dims else "condition"
    labels = data[dim].values.astype(str) if dim in data.coords else np.arange(data.sizes[dim]).astype(str)
    _check_same_behavior(fit, data["behavior"].transpose(dim, "time", "readout").values, labels, dim)
    seen = condition_labels(fit)[~fit["held_out"].values]
    train: Array = np.isin(labels, seen)
    if train.all() or not train.any():
        which = "All" if train.all() else "None"
        raise ContractError(
            f"{which} of the {len(train)} {dim}s were trained on. The plain decoder needs some that were, and scores "
            "need others. Fit with test_size=..., and give all of them."
        )
    return train


def _check_same_behavior(fit: xr.Dataset, behavior: Array, labels: Array, dim: str) -> None:
    """Refuse other trials that have labels of the fit: they would be taken for those that it was trained on."""
    place = {label: k for k, label in enumerate(condition_labels(fit).astype(str).tolist())}
    own = fit["behavior"].transpose("condition", "time", "readout").values
    for label, values in zip(labels.tolist(), behavior, strict=True):
        if label not in place or values.shape != own.shape[1:]:
            continue
        kept = own[place[label]]
        both = np.isfinite(kept) & np.isfinite(values)
        if not np.allclose(kept[both], values[both], rtol=1e-6):
            raise ContractError(
                f"The {dim} {label} has other behavior than in the fit. Labels say which {dim}s trained it. Give "
                "those of the fit, and label others otherwise."
            )


def _of_trials(fit: xr.Dataset, trials: xr.Dataset, causal: bool) -> tuple[Array, Array]:
    """1 and the latents of single trials (…, term), and the variance of what is read (trial, time, readout)."""
    mean, covariance, _ = posterior_of(system_of(fit), trials_for(fit, trials), causal)
    weights = fit["readout_weights"].values
    spread = np.einsum("kr,ntrs,ks->ntk", weights, covariance, weights)
    return np.concatenate([np.ones((*mean.shape[:2], 1)), mean], axis=2), spread


def _of_means(fit: xr.Dataset, activity: xr.Dataset) -> tuple[Array, Array]:
    """1, the latents of the activity and the filtered inputs (condition, time, term), and zeros."""
    found = latents(fit, activity)
    parts = [found[name].values.astype(float) for name in ("latent_data", "filtered_input")]
    design = np.concatenate([np.ones((*parts[0].shape[:2], 1)), *parts], axis=2)
    return design, np.zeros((*design.shape[:2], fit.sizes["readout"]))


def _smoothed_activity(data: xr.Dataset, train: Array, causal: bool) -> dict[float, Array]:
    """Counts, values or activity (trial, time, neuron) minus their training mean, smoothed by each width, in bins."""
    dim = "trial" if "trial" in data.dims else "condition"
    name = next(one for one in ("count", "rate", "activity") if one in data)
    y = data[name].transpose(dim, "time", "neuron").values.astype(float)
    if "observed" in data:
        y = np.where(data["observed"].transpose(dim, "time", "neuron").values, y, np.nan)
    seen = np.isfinite(y)
    number = np.maximum(seen[train].sum(axis=(0, 1)), 1)
    off = np.where(seen, y - np.where(seen, y, 0)[train].sum(axis=(0, 1)) / number, 0)
    if not causal:
        return {width: gaussian_filter1d(off, width, axis=1) for width in _PLAIN_WIDTHS}
    decays = {width: np.exp(-1 / width) for width in _PLAIN_WIDTHS}
    return {width: lfilter([1 - decay], [1, -decay], off, axis=1) for width, decay in decays.items()}


def _plain(activity: dict[float, Array], behavior: Behavior, train: Array) -> tuple[Array, Array, Array]:
    """What the plain decoder predicts (trial, time, readout), and its widths, bins, and penalties (readout)."""
    predictions, widths, ridges = [], [], []
    for k, choice in enumerate(behavior.choice):
        best, kept = -np.inf, None
        used = behavior.share[train][..., k] > 0
        share, z = behavior.share[train][used, k], behavior.z[train][used, k]
        groups = np.broadcast_to(np.arange(train.sum())[:, None], used.shape)[used]
        of_group = np.unique(np.stack([groups, z if choice else 0 * z]), axis=1)[1]
        folds = min(_PLAIN_FOLDS, *np.unique(of_group, return_counts=True)[1])
        if folds < 2:
            raise ContractError(
                "The rarer choice, or all behavior, is in a single training trial. The plain decoder needs two. Give "
                "more trials."
            )
        for width, x in activity.items():
            search = _plain_search(bool(choice), folds)
            search.fit(x[train][used], z, groups=groups, **{f"{search.estimator.steps[-1][0]}__sample_weight": share})
            if search.best_score_ > best:
                best, kept = search.best_score_, (width, search)
        assert kept is not None
        width, search = kept
        flat = activity[width].reshape(-1, activity[width].shape[2])
        found = search.predict_proba(flat)[:, 1] if choice else search.predict(flat)
        predictions.append(found.reshape(behavior.z.shape[:2]))
        strength = float(next(iter(search.best_params_.values())))
        widths.append(width)
        ridges.append(1 / strength if choice else strength)
    return np.stack(predictions, axis=2), np.array(widths), np.array(ridges)


def _plain_search(choice: bool, folds: int) -> GridSearchCV:
    """The plain decoder, which chooses its penalty on groups of samples."""
    if choice:
        splits: Any = StratifiedGroupKFold(folds)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        strengths = {"logisticregression__C": 1 / _PLAIN_STRENGTHS}
        return GridSearchCV(model, strengths, scoring="neg_log_loss", cv=splits)
    model = make_pipeline(StandardScaler(), Ridge())
    return GridSearchCV(
        model, {"ridge__alpha": _PLAIN_STRENGTHS}, scoring="neg_mean_squared_error", cv=GroupKFold(folds)
    )


def _with_decoding_scores(out: xr.Dataset, both: tuple[Array, Array], behavior: Behavior, train: Array) -> xr.Dataset:
    """The result with the scores of both decoders on the trials that were not trained on.

    Samples of means that have no latents, because neurons were not observed, are left out of both.
    """
    known = np.isfinite(both[0])
    behavior = behavior._replace(share=np.where(known | train[:, None, None], behavior.share, 0))
    both = np.where(known, both[0], 0), both[1]
    reference, held = reference_losses(behavior, train)[~train], ~train
    share, choice = behavior.share[held], behavior.choice
    seen = share.sum(axis=(0, 1))
    gains = np.stack([(reference - losses(one, behavior)[held]) for one in both])  # (decoder, trial, readout)
    for name, gain, dims in (
        ("score", gains, ("decoder", "readout")),
        ("score_difference", gains[0] - gains[1], ("readout",)),
    ):
        _, mean, sem = scores_of_trials(gain, reference, share)
        out[name], out[f"{name}_sem"] = (dims, mean), (dims, sem)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(choice, gains.sum(axis=1) / seen / np.log(2), np.nan)
        out["bits"] = ("decoder", "readout"), bits
        inside = (out["behavior"] >= out["decoded_low"]) & (out["behavior"] <= out["decoded_high"])
        within = (share * inside.values[held]).sum(axis=(0, 1)) / seen
    right = [[_of_choices(one[held, :, k], behavior, held, k) for k in range(len(choice))] for one in both]
    accuracy, auc = np.moveaxis(np.array(right, float).reshape(2, len(choice), 2), 2, 0)
    out["accuracy"], out["auc"] = (("decoder", "readout"), accuracy), (("decoder", "readout"), auc)
    out["coverage"] = ("readout",), np.where(choice, np.nan, within)
    return out


def _of_choices(probability: Array, behavior: Behavior, held: Array, k: int) -> tuple[float, float]:
    """Share of right choices, and area under the curve, from the mean probability over the window; NaN of numbers."""
    share = behavior.share[held][..., k]
    seen = share.sum(axis=1) > 0
    if not behavior.choice[k] or not seen.any():
        return np.nan, np.nan
    weight = share[seen] / share[seen].sum(axis=1, keepdims=True)
    mean, true = (weight * probability[seen]).sum(axis=1), (weight * behavior.z[held][seen, :, k]).sum(axis=1) > 0.5
    area = float(roc_auc_score(true, mean)) if 0 < true.sum() < len(true) else np.nan
    return float(((mean > 0.5) == true).mean()), area

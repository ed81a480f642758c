"""A low-rank network as estimators of scikit-learn: `LowRankEncoder` (inputs → activity), `LowRankDecoder` (activity →
latents). A sample is a condition.

Arrays are (condition, time, neuron) or (condition, time, input). Where a tool of scikit-learn needs two dims, the last
two are one: all neurons of the first bin come first.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from nwb_lint.contract.columns import recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.scores import r_squared
from nwb_lint.model.simulate import simulate
from nwb_lint.nwb.convert.arrays import from_arrays
from nwb_lint.prepare import prepare
from nwb_lint.rate_link import Link

Array = np.ndarray

_DIMS = ("condition", "time", "input")
_NONE = "none"  # the input, always 0, of a network without inputs
_ROUNDED_SHARE = 1e-5  # singular values of directions below this share of the largest are rounding of single precision


class _LowRank(BaseEstimator):
    """What both estimators share: their options, and the fit of rates (condition, time, neuron) with inputs."""

    def __init__(
        self,
        rank: int = 1,
        *,
        tau_s: float = 0.1,
        dt_s: float = 0.01,
        n_neurons: int | None = None,
        method: str = "auto",
        nonlinearity: str = "tanh",
        n_components: int | None = 12,
        time_course: bool = True,
        seed: int = 0,
        fit_options: dict[str, Any] | None = None,
    ) -> None:
        self.rank = rank
        self.tau_s = tau_s
        self.dt_s = dt_s
        self.n_neurons = n_neurons
        self.method = method
        self.nonlinearity = nonlinearity
        self.n_components = n_components
        self.time_course = time_course
        self.seed = seed
        self.fit_options = fit_options

    def _fit_network(self, rates: Array, u: Array, names: list[str], initial: str) -> None:
        """Prepare the rates, and fit the network to them: the attribute ``fit_``."""
        labels = [f"sample {k}" for k in range(len(rates))]
        time = self.dt_s * np.arange(rates.shape[1])
        recording = from_arrays(rate=rates, time=time, conditions=labels, bin_s=self.dt_s)
        activity = prepare(
            recording, inputs=[Input(_NONE)], n_components=self.n_components, time_course=self.time_course
        )
        options = {"initial": initial} | self._other_options()
        self.fit_ = fit_lint(
            _with_inputs(activity, u, names),
            rank=self.rank,
            tau_s=self.tau_s,
            method=self.method,
            nonlinearity=self.nonlinearity,
            seed=self.seed,
            **options,
        )

    def _other_options(self) -> dict[str, Any]:
        """``fit_options``; ContractError for those that are parameters of the estimator, or no options of a fit."""
        options = {} if self.fit_options is None else self.fit_options
        if not isinstance(options, dict):
            raise ContractError(f"fit_options is a {type(options).__name__}. It needs a dict. Pass one.")
        if own := sorted(options.keys() & self.get_params()):
            raise ContractError(
                f"fit_options has {own[0]}, which is a parameter of the estimator. Pass it as {own[0]}=."
            )
        if strange := sorted(options.keys() - signature(fit_lint).parameters.keys()):
            raise ContractError(f"fit_options has {strange[0]}. It needs options of fit_lint. Leave it out.")
        return options

    def _activity(self, rates: Array) -> Array:
        """Rates as the activity that the network was fitted to, dimensionless."""
        link = Link.of(self.fit_).of_rate(rates)
        own = recorded_of(self.fit_)
        offset = self.fit_["offset"]
        offset = offset.transpose("time", "neuron") if "time" in offset.dims else offset
        activity = (link - offset.values[..., own]) / self.fit_["scale"].values[own]
        if "component" in self.fit_:
            component = self.fit_["component"].values[:, own]
            activity = activity @ component.T @ component
        return activity

    def _run(self, u: Array) -> xr.Dataset:
        """A free run of the network on other inputs."""
        labels = [f"sample {k}" for k in range(len(u))]
        names = self.fit_["input"].values
        given = xr.DataArray(u.astype(np.float32), dims=_DIMS, coords={"condition": labels, "input": names})
        return simulate(self.fit_, given).isel(neuron=np.flatnonzero(recorded_of(self.fit_)))

    def _r2(self, rates: Array, u: Array) -> float:
        """R² of the free run, over all samples of the activity; 0 is the mean of each neuron in the training data."""
        reference = np.nanmean(self.fit_activity_, axis=(0, 1))
        return float(r_squared(self._activity(rates), self._run(u)["activity"].values, reference)[0])

    def _cube(self, values: Array, what: str) -> Array:
        """Rates as (condition, time, neuron)."""
        if values.ndim == 3:
            if self.n_neurons not in (None, values.shape[2]):
                raise ContractError(
                    f"{what} has {values.shape[2]} neurons, and n_neurons is {self.n_neurons}. Drop it."
                )
            return values
        n = self.n_neurons or 1
        if values.shape[1] % n:
            raise ContractError(
                f"{what} has {values.shape[1]} columns, which are no whole number of bins of n_neurons={n}. Pass an "
                "array (condition, time, neuron), or change n_neurons."
            )
        return values.reshape(len(values), -1, n)


class LowRankEncoder(RegressorMixin, _LowRank):
    """Predict the activity of neurons from the inputs of a low-rank network, with the interface of scikit-learn.

    Parameters
    ----------
    rank : int, default=1
        Rank of the connectivity.
    tau_s : float, default=0.1
        Time constant of the neurons, s.
    dt_s : float, default=0.01
        Width of a bin, s.
    n_neurons : int or None, default=None
        Number of neurons, for activity with two dims. None: one neuron, or what an array with three dims has.
    method : {"auto", "regression", "gradient"}, default="auto"
        Which stages of the fit run, as for `fit_lint`.
    nonlinearity : str, default="tanh"
        Nonlinearity of the neurons, as for `fit_lint`.
    n_components : int or None, default=12
        Principal components that the rates are denoised by, as for `prepare`.
    time_course : bool, default=True
        Whether the time course that all conditions share is subtracted, as by `prepare`.
    seed : int, default=0
        Seed of the fit.
    fit_options : dict or None, default=None
        Other options of `fit_lint`.

    Attributes
    ----------
    fit_ : xarray.Dataset
        The fit, for all functions of this package.
    n_features_in_ : int
        Second dim of the inputs.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_recording
    >>> u, rates = mock_activity()["u"].values, mock_recording()["rate"].values
    >>> encoder = LowRankEncoder(rank=1, dt_s=0.02, method="regression").fit(u[:6], rates[:6])
    >>> encoder.predict(u[6:]).shape, encoder.score(u[6:], rates[6:]) > 0.5
    ((2, 40, 12), True)
    """

    def fit(self, X: Any, y: Any) -> LowRankEncoder:
        """Fit the network.

        Parameters
        ----------
        X : array of shape (condition, time, input) or (condition, input)
            Inputs. With two dims they are amplitudes, the same in all bins.
        y : array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates of neurons, Hz or any unit.

        Returns
        -------
        LowRankEncoder
        """
        if y is None:
            raise ContractError("LowRankEncoder requires y to be passed, but the target y is None. Pass rates.")
        X = validate_data(self, X, allow_nd=True, dtype=np.float64, ensure_min_samples=2)
        y = check_array(y, allow_nd=True, ensure_2d=False, dtype=np.float64, ensure_all_finite=False)
        self.flat_ = y.ndim < 3
        rates = self._cube(y[:, None] if y.ndim == 1 else y, "y")
        _check_length(len(X), len(rates))
        if rates.shape[1] < 2:
            raise ContractError(
                "y has a single bin. A fit of dynamics needs at least 2. Pass (condition, time, neuron), or n_neurons."
            )
        u = _over_time(X, rates.shape[1])
        self._fit_network(rates, u, [f"input {k}" for k in range(u.shape[2])], "zero")
        self.fit_activity_ = self._activity(rates)
        return self

    def predict(self, X: Any) -> Array:
        """Rates in a free run of the network.

        Parameters
        ----------
        X : array of shape (condition, time, input) or (condition, input)
            Inputs.

        Returns
        -------
        array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates, with as many dims as those of the fit.
        """
        rates = self._run(self._inputs(X))["rate"].values.astype(float)
        return rates.reshape(len(rates), -1) if self.flat_ else rates

    def score(self, X: Any, y: Any) -> float:
        """R² of the predicted activity over all neurons and bins: that of `nwb_lint.score`.

        Parameters
        ----------
        X : array of shape (condition, time, input) or (condition, input)
            Inputs.
        y : array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates.

        Returns
        -------
        float
            1 is a perfect prediction; 0 is that of the mean rates in the training data.
        """
        u = self._inputs(X)
        y = check_array(y, allow_nd=True, dtype=np.float64, ensure_all_finite=False)
        _check_length(len(u), len(y))
        rates = self._cube(y, "y")
        _check_shape(rates, int(recorded_of(self.fit_).sum()), "neurons", self.fit_.sizes["time"])
        return self._r2(rates, u)

    def _inputs(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True, dtype=np.float64)
        u = _over_time(X, self.fit_.sizes["time"])
        _check_shape(u, self.fit_.sizes["input"], "inputs", self.fit_.sizes["time"])
        return u

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output, tags.target_tags.multi_output = False, True
        tags.input_tags.three_d_array = True
        return tags


class LowRankDecoder(TransformerMixin, _LowRank):
    """Read the latents of a low-rank network from the activity of neurons, with the interface of scikit-learn.

    The latents κ and the filtered inputs v of an activation x = m κ + I v are found by least squares from the activity
    alone. Put a classifier after it in a pipeline to decode a variable.

    Parameters
    ----------
    rank : int, default=1
        Rank of the connectivity.
    tau_s : float, default=0.1
        Time constant of the neurons, s.
    dt_s : float, default=0.01
        Width of a bin, s.
    n_neurons : int or None, default=None
        Number of neurons, for activity with two dims. None: one neuron, or what an array with three dims has.
    method : {"auto", "regression", "gradient"}, default="auto"
        Which stages of the fit run, as for `fit_lint`.
    nonlinearity : str, default="tanh"
        Nonlinearity of the neurons, as for `fit_lint`.
    n_components : int or None, default=12
        Principal components that the rates are denoised by, as for `prepare`.
    time_course : bool, default=True
        Whether the time course that all conditions share is subtracted, as by `prepare`.
    seed : int, default=0
        Seed of the fit.
    fit_options : dict or None, default=None
        Other options of `fit_lint`.

    Attributes
    ----------
    fit_ : xarray.Dataset
        The fit, for all functions of this package.
    n_features_in_ : int
        Second dim of the activity.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_recording
    >>> u, rates = mock_activity()["u"].values, mock_recording()["rate"].values
    >>> decoder = LowRankDecoder(rank=1, dt_s=0.02, method="regression").fit(rates[:6], u[:6])
    >>> decoder.transform(rates[6:]).shape
    (2, 40)
    """

    def fit(self, X: Any, y: Any = None) -> LowRankDecoder:
        """Fit the network.

        Parameters
        ----------
        X : array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates of neurons.
        y : array of shape (condition,), (condition, input), (condition, time, input), or None, default=None
            Inputs of the network: amplitudes that are the same in all bins, or courses. Texts, such as labels of a
            classification, are one input for each text. None: no inputs, and each condition starts where it starts.

        Returns
        -------
        LowRankDecoder
        """
        X = validate_data(self, X, allow_nd=True, dtype=np.float64, ensure_min_samples=2, ensure_min_features=2)
        rates = self._cube(X, "X")
        if rates.shape[1] < 2:
            raise ContractError("X has a single bin. A fit of dynamics needs at least 2. Change n_neurons.")
        self.levels_ = None
        if y is not None and np.asarray(y).dtype.kind in "OUT":
            self.levels_ = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(np.reshape(y, (-1, 1)))
        u = self._inputs(y, rates.shape)
        names = [_NONE] if y is None else [f"input {k}" for k in range(u.shape[2])]
        self._fit_network(rates, u, names, "condition" if y is None else "zero")
        self.fit_activity_ = self._activity(rates)
        return self

    def transform(self, X: Any) -> Array:
        """Latents of the activity.

        Parameters
        ----------
        X : array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates of neurons.

        Returns
        -------
        array of shape (condition, time × rank)
            Latents; all of the first bin come first.
        """
        found = self._coefficients(X)[..., : self.rank]
        return found.reshape(len(found), -1)

    def score(self, X: Any, y: Any = None) -> float:
        """R² of the network for other conditions.

        Parameters
        ----------
        X : array of shape (condition, time, neuron) or (condition, time × neuron)
            Rates of neurons.
        y : array as in `fit`, or None, default=None
            With inputs: R² of the free run of the network on them, as that of `LowRankEncoder`. None: the share of the
            variance along m and the input weights.

        Returns
        -------
        float
        """
        rates = self._rates(X)
        if y is not None:
            u = self._inputs(y, rates.shape)
            _check_shape(u, self.fit_.sizes["input"], "inputs", self.fit_.sizes["time"])
            return self._r2(rates, u)
        along = self._coefficients(X) @ self._directions().T
        reference = np.nanmean(self.fit_activity_, axis=(0, 1))
        return float(r_squared(self._activity(rates), along, reference)[0])

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : sequence of str or None, default=None
            Not used.

        Returns
        -------
        array of str
        """
        check_is_fitted(self)
        bins = range(self.fit_.sizes["time"])
        return np.array([f"latent{one}_bin{at}" for at in bins for one in range(self.rank)], dtype=object)

    def _rates(self, X: Any) -> Array:
        check_is_fitted(self)
        rates = self._cube(validate_data(self, X, reset=False, allow_nd=True, dtype=np.float64), "X")
        _check_shape(rates, int(recorded_of(self.fit_).sum()), "neurons", self.fit_.sizes["time"])
        return rates

    def _directions(self) -> Array:
        """m and the input weights of the recorded neurons, (neuron, latent + input)."""
        own = recorded_of(self.fit_)
        return np.concatenate([self.fit_["m"].values[own], self.fit_["input_weights"].values[own]], axis=1)

    def _coefficients(self, X: Any) -> Array:
        """Latents and filtered inputs (condition, time, latent + input) by least squares.

        Directions that differ by rounding alone count as one, which the latents and inputs along them share.
        """
        return self._activity(self._rates(X)) @ np.linalg.pinv(self._directions(), rcond=_ROUNDED_SHARE).T

    def _inputs(self, y: Any, shape: tuple[int, ...]) -> Array:
        """Inputs (condition, time, input) of what `fit` takes as y."""
        if y is None:
            return np.zeros((*shape[:2], 1))
        if self.levels_ is not None:
            y = self.levels_.transform(np.reshape(y, (-1, 1)))
        values = check_array(y, allow_nd=True, ensure_2d=False, dtype=np.float64)
        _check_length(len(values), shape[0])
        return _over_time(values[:, None] if values.ndim == 1 else values, shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _with_inputs(activity: xr.Dataset, u: Array, names: list[str]) -> xr.Dataset:
    """An activity with these inputs (condition, time, input)."""
    return activity.drop_dims("input").assign(u=(_DIMS, u.astype(np.float32))).assign_coords(input=names)


def _over_time(values: Array, n_times: int) -> Array:
    """Inputs (condition, time, input), from these or from amplitudes (condition, input)."""
    found = np.repeat(values[:, None], n_times, axis=1) if values.ndim == 2 else values
    if found.ndim != 3 or found.shape[1] != n_times:
        raise ContractError(
            f"The inputs have shape {values.shape}, and there are {n_times} bins. They need (condition, input), or "
            "(condition, time, input) with these bins. Change them."
        )
    return found


def _check_length(found: int, needed: int) -> None:
    if found != needed:
        raise ContractError(f"X and y have {found} and {needed} samples. Each condition needs both. Change one.")


def _check_shape(values: Array, last: int, what: str, n_times: int) -> None:
    if values.shape[1:] != (n_times, last):
        raise ContractError(
            f"The array has {values.shape[1]} bins and {values.shape[2]} {what}. The fit has {n_times} and {last}. "
            "Pass the same."
        )

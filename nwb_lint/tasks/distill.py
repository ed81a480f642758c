"""Low-rank networks that do what a recurrent module of torch does: `run_module` and `distill`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity
from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_lint, fit_with_options
from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.trained_networks import DistillOptions, ModuleOptions
from nwb_lint.parallel.warnings import warn
from nwb_lint.prepare import drawn_conditions
from nwb_lint.validation.rank import select_rank

Array = np.ndarray

STATES = ("rate", "activation")
_MOST = 0.97  # states nearer to 1 count as this, where they are rates: arctanh(1) is infinite
# Chosen on GRUs of 64 units that were trained on the flip-flop (seeds 10 and 11; `docs/decisions.md`).
_UNITS = 64  # of the module and hidden, where hidden is not given
_TEST_SIZE = 0.2
_ALPHAS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.2, 0.1)  # steps per time constant that are tried
_SHORT = 30  # iterations of the gradient in fits that choose
_SAME_START = 1e-4  # largest difference of first states that count as one
_VALIDATION = 0.25  # of the training conditions, for the choice of states and tau
_FEWEST = 3  # training conditions of that choice: two are fitted
_FOLDS = 4  # of the choice among ranks
_OF_RANKS = ("rank_r2", "rank_r2_sem", "rank_r2_ceiling", "rank_deficit", "rank_deficit_sem")


@validated(ModuleOptions)
def run_module(
    module: Any,
    inputs: xr.Dataset | xr.DataArray | Array,
    *,
    dt_s: float | None = None,
    readout: Callable[[Any], Any] | None = None,
    states: str = "activation",
) -> xr.Dataset:
    """Run a recurrent module of torch on inputs; its states become an activity, as `prepare` gives it.

    Sample t is the state before input t: the first one is the state that the module starts from, and the last input
    has no effect. The module runs in evaluation mode and without gradients. One that draws random numbers even then
    gives other states in each call; ``torch.manual_seed`` repeats them.

    Parameters
    ----------
    module : torch.nn.Module or callable
        A GRU, LSTM or RNN of ``torch.nn``, or one of their cells: the states are h, of the last layer. A module with
        one of these inside: the states are those of this part. Any other, also a function, needs to return its states
        (trial, time, unit); it starts from what one step without input makes of it. Modules of other software take
        inputs (trial, time, input), unless their ``batch_first`` is False.
    inputs : xarray.Dataset, xarray.DataArray or array
        Inputs (trial or condition, time, input), or a Dataset with these as ``u``. Dimensionless.
    dt_s : float or None, default=None
        Step of the module, s. None takes the time of ``inputs``.
    readout : callable or None, default=None
        Makes the states, or rates, (trial, time, unit) of what the module returns, such as ``lambda out: out[0]``.
    states : {"activation", "rate"}, default="activation"
        What the states are in a network: its activation x, or its rates tanh(x). Then the activity is arctanh of the
        states, which need to be between -1 and 1; values beyond ±0.97 count as ±0.97.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)`` and ``u (condition, time, input)``, dimensionless, with the columns of
        the inputs. Attributes: ``bin_s``, ``states``, ``module`` (its class), ``module_sizes``, ``module_parameters``
        (their number).

    Raises
    ------
    ContractError
        If the inputs have other dims, the step is not known, the module does not take them, or does not show its
        states.

    Examples
    --------
    >>> import numpy as np, torch
    >>> activity = run_module(torch.nn.GRU(2, 8), np.zeros((5, 30, 2)), dt_s=0.01)
    >>> dict(activity["activity"].sizes)
    {'condition': 5, 'time': 30, 'neuron': 8}
    """
    return _run(module, inputs, dt_s, readout, states)[0]


def _run(module: Any, inputs: Any, dt_s: float | None, readout: Any, states: str) -> tuple[xr.Dataset, Array]:
    """The activity, and the states before the arctanh (condition, time, unit)."""
    if not callable(module):
        raise ContractError(
            f"module is a {type(module).__name__}. It needs to be a torch module or a function. Build the module, and "
            "load its state_dict into it."
        )
    from nwb_lint.tasks._torch import states_of

    out, step = _conditions(inputs, dt_s)
    after, first = states_of(module, out["u"].values, readout)
    found = np.concatenate([first[:, None], after[:, :-1]], axis=1)
    if bad := int((~np.isfinite(found)).sum()):
        raise ContractError(f"{bad} states of the module are not finite. All need to be. Give smaller inputs.")
    if states == "rate":
        _check_rates(found)
    out["activity"] = ("condition", "time", "neuron"), _values(found, states), {"units": "1"}
    out = out.assign_coords(neuron=[f"unit {k}" for k in range(found.shape[2])])
    out.attrs = {"bin_s": step, "states": states} | _provenance(module)
    check_activity(out)
    return out, found


def _check_rates(found: Array) -> None:
    largest = float(np.abs(found).max(initial=0))
    if largest > 1 + 1e-6:
        raise ContractError(
            f"The states reach {largest:.3g}. Rates tanh(x) are between -1 and 1. Use states='activation', or a "
            "readout that gives such values."
        )


def _provenance(module: Any) -> dict[str, Any]:
    kind = type(module) if hasattr(module, "parameters") else None
    name = f"{kind.__module__}.{kind.__qualname__}" if kind else getattr(module, "__qualname__", type(module).__name__)
    count = sum(one.numel() for one in module.parameters()) if kind else 0
    return {
        "module": name,
        "module_sizes": " ".join(repr(module).split()) if kind else name,
        "module_parameters": count,
    }


def _conditions(inputs: Any, dt_s: float | None) -> tuple[xr.Dataset, float]:
    """Inputs as the conditions of an activity, and their step in s."""
    if isinstance(inputs, xr.Dataset) and "u" not in inputs:
        raise ContractError(f"inputs has {', '.join(map(str, inputs)) or 'no variables'}. It needs u. Add it.")
    given = inputs["u"] if isinstance(inputs, xr.Dataset) else inputs
    if not isinstance(given, xr.DataArray):
        values = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
        given = xr.DataArray(values, dims=("condition", "time", "input")[: values.ndim] if values.ndim < 4 else None)
    given = given.rename({"trial": "condition"}) if "trial" in given.dims else given
    if set(given.dims) != {"condition", "time", "input"} or given.dtype.kind not in "biuf" or 0 in given.shape:
        raise ContractError(
            f"inputs has the sizes {dict(given.sizes)} and dtype {given.dtype}. It needs numbers (trial, time, input). "
            "Pass these."
        )
    given = given.transpose("condition", "time", "input").rename("u").astype(np.float32)
    if given.sizes["time"] < 2 or not np.isfinite(given.values).all():
        raise ContractError("inputs needs at least 2 times, and finite numbers. Check them.")
    step = _step(given, dt_s)
    defaults: dict[str, Any] = {
        "time": step * np.arange(given.sizes["time"]),
        "input": [f"input {k + 1}" for k in range(given.sizes["input"])],
    }
    given = given.assign_coords({name: value for name, value in defaults.items() if name not in given.coords})
    labels = given["condition"].values if "condition" in given.coords else np.arange(given.sizes["condition"])
    if labels.dtype.kind not in "UOT":
        labels = np.array([f"trial {one}" for one in labels.tolist()])
    strange = [name for name, one in given.coords.items() if len(one.dims) != 1]
    return given.drop_vars(strange).assign_coords(condition=labels).to_dataset(), step


def _step(given: xr.DataArray, dt_s: float | None) -> float:
    """Step of the inputs, s."""
    if "time" not in given.coords or given["time"].dtype.kind not in "iuf":
        if dt_s is None:
            raise ContractError("inputs have no time in seconds. The step of the module is needed. Pass dt_s.")
        return float(dt_s)
    steps = np.diff(given["time"].values)
    own = float(np.median(steps))
    if (
        not np.allclose(steps, own, rtol=1e-3)
        or own <= 0
        or (dt_s is not None and not np.isclose(own, dt_s, rtol=1e-3))
    ):
        raise ContractError(
            f"The times of inputs are {own:g} s apart{'' if dt_s is None else f', and dt_s is {dt_s:g} s'}. The steps "
            "of a module are equal. Check the times, or leave dt_s out."
        )
    return own


@validated(DistillOptions)
def distill(
    module: Any,
    inputs: xr.Dataset | xr.DataArray | Array,
    *,
    rank: int | Sequence[int],
    dt_s: float | None = None,
    readout: Callable[[Any], Any] | None = None,
    states: str = "auto",
    tau_s: float | None = None,
    hidden: int | str = "auto",
    **fit_options: Any,
) -> xr.Dataset:
    """Fit a low-rank network to a recurrent module of torch, such as a GRU or an LSTM.

    The module runs on the inputs (`run_module`), and `fit_lint` fits its states in free runs; every trial is a
    condition, and there is no noise. What is not given is chosen by R² of the states of trials that are held out inside
    the training trials: whether the states are the activation x of the network or its rates tanh(x), and the time
    constant, of 1, 1.2, 1.4, 1.8, 2.5, 5 and 10 steps. A module can jump in one step, so short time constants are often
    best.

    Parameters
    ----------
    module : torch.nn.Module or callable
        As in `run_module`.
    inputs : xarray.Dataset, xarray.DataArray or array
        Inputs (trial or condition, time, input), or a Dataset with these as ``u``: those of the task, many enough that
        the states that matter are visited.
    rank : int or sequence of int
        Rank R. Of several, `select_rank` chooses the smallest that is about as good as the best.
    dt_s : float or None, default=None
        Step of the module, s. None takes the time of ``inputs``.
    readout : callable or None, default=None
        Makes the states, or rates, (trial, time, unit) of what the module returns.
    states : {"auto", "activation", "rate"}, default="auto"
        What the states are in the network: its activation x, its rates tanh(x), or the better of both.
    tau_s : float or None, default=None
        Time constant, s; at least the step. None chooses it.
    hidden : int or "auto", default="auto"
        Hidden units; "auto": as many as make 64 units in all.
    **fit_options : Any
        Other options of `fit_lint`. Other defaults: ``bias=True``, ``test_size=0.2``, ``loss="rate"`` where the states
        are rates, and ``initial="learned"`` unless the module starts from 0.

    Returns
    -------
    xarray.Dataset
        A fit. R² is that of x; the attributes ``states_r2_train`` and ``states_r2_held_out`` are R² of the states of
        the module, in free runs on the inputs of these trials. Attributes ``module``, ``module_sizes`` and
        ``module_parameters`` say what was distilled, ``states`` how. With several ranks it has ``rank_r2 (rank_tried,
        split)`` and what goes with it.

    Raises
    ------
    ContractError
        For the reasons of `run_module` and of `fit_lint`.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, discussion.

    Examples
    --------
    >>> import numpy as np, torch
    >>> gru = torch.nn.GRU(1, 8)
    >>> inputs = np.random.default_rng(0).normal(size=(20, 30, 1))
    >>> fit = distill(gru, inputs, rank=1, dt_s=0.01, tau_s=0.01, method="regression")
    >>> fit.attrs["module_sizes"], fit.sizes["rank"]
    ('GRU(1, 8)', 1)
    """
    activity, found = _run(module, inputs, dt_s, readout, "activation")
    ranks = [int(one) for one in np.atleast_1d(np.asarray(rank))]
    options = _defaults(found, hidden) | {"seed": 0} | fit_options
    if options["initial"] in ("zero", "learned") and np.ptp(found[:, 0], axis=0).max() > _SAME_START:
        warn(
            "The module does not start from the same state in all trials, and the network does. Name a column of the "
            "inputs by initial= if it tells the starts apart."
        )
    if states == "rate":
        _check_rates(found)
        if options.get("nonlinearity", "tanh") != "tanh":
            raise ContractError("states='rate' means tanh(x). Leave nonlinearity out, or use states='activation'.")
    test = {name: options.pop(name, None) for name in ("test_size", "test_conditions")}
    if all(one is None for one in test.values()):
        test["test_size"] = _TEST_SIZE
    held = drawn_conditions(activity, test["test_size"], test["test_conditions"], options["seed"])
    assert held is not None
    kind, tau = _best(activity, found, ~held, states, tau_s, options | {"rank": max(ranks)})
    data, options = _as(activity, found, kind), _with_loss(options, kind) | {"tau_s": tau}
    table = _ranks(data.isel(condition=np.flatnonzero(~held)), ranks, options) if len(ranks) > 1 else None
    chosen = ranks[0] if table is None else int(table.attrs["rank"])
    fit = fit_lint(data, rank=chosen, test_conditions=held, **options)
    if table is not None:
        fit = fit.assign({name: table[name] for name in _OF_RANKS})
    r2 = _r2_of_states(fit, found, kind, held)
    fit.attrs |= {f"states_r2_{name}": value for name, value in zip(("train", "held_out"), r2, strict=True)}
    return fit


def _defaults(found: Array, hidden: int | str) -> dict[str, Any]:
    """Options of the fit that differ from those of `fit_lint`."""
    units = max(0, _UNITS - found.shape[2]) if hidden == "auto" else hidden
    return {"bias": True, "hidden": units, "initial": "learned" if found[:, 0].any() else "zero"}


def _best(
    activity: xr.Dataset, found: Array, training: Array, states: str, tau_s: float | None, options: dict[str, Any]
) -> tuple[str, float]:
    """What the states are, and the time constant: by R² of the states of some training conditions, not fitted."""
    step = float(activity.attrs["bin_s"])
    taus = [step / alpha for alpha in _ALPHAS] if tau_s is None else [tau_s]
    kinds = [states] if states != "auto" else STATES
    if states == "auto" and (options.get("nonlinearity", "tanh") != "tanh" or np.abs(found).max() > 1):
        kinds = ["activation"]
    candidates = list(product(kinds, taus))
    if len(candidates) == 1:
        return candidates[0]
    chosen = np.flatnonzero(training)
    if len(chosen) < _FEWEST:
        raise ContractError(
            f"{len(chosen)} trials are not held out. states and tau_s are chosen by some of them, and {_FEWEST} are "
            "needed. Give more trials, or states and tau_s."
        )
    data, values = activity.isel(condition=chosen), found[chosen]
    held = drawn_conditions(data, _VALIDATION, None, options["seed"])
    assert held is not None
    scores = []
    for kind, tau in candidates:
        given = _with_loss(options, kind) | {"tau_s": tau, "test_conditions": held}
        given["max_iter"] = min(_SHORT, given.get("max_iter", _SHORT))
        given.pop("checkpoint", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of candidates that are not chosen
            fit = fit_with_options(_as(data, values, kind), FitOptions.check(given))
        scores.append(_r2_of_states(fit, values, kind, held)[1])
    return candidates[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]


def _as(activity: xr.Dataset, found: Array, kind: str) -> xr.Dataset:
    """The activity with these states as rates or as activations."""
    return activity.assign(activity=(activity["activity"].dims, _values(found, kind))).assign_attrs(states=kind)


def _values(found: Array, kind: str) -> Array:
    """The activation of states (…, unit)."""
    return (np.arctanh(np.clip(found, -_MOST, _MOST)) if kind == "rate" else found).astype(np.float32)


def _with_loss(options: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"loss": "rate"} | options if kind == "rate" else options


def _ranks(data: xr.Dataset, ranks: list[int], options: dict[str, Any]) -> xr.Dataset:
    """Cross-validation of the ranks on the training conditions."""
    own = {name: value for name, value in options.items() if name not in ("seed", "checkpoint")}
    return select_rank(data, ranks=ranks, folds=min(_FOLDS, data.sizes["condition"]), **own)


def _r2_of_states(fit: xr.Dataset, found: Array, kind: str, held: Array) -> tuple[float, float]:
    """R² of the states in the free run of a fit, of the training and of the held-out conditions."""
    run = fit["activity_pred"].values[..., : found.shape[2]].astype(float)
    run = np.tanh(run) if kind == "rate" else run
    reference = reference_of(found, ~held)
    each = [r_squared(found[part], run[part], reference)[0] if part.any() else np.nan for part in (~held, held)]
    return each[0], each[1]

"""Networks that other software trained or fitted, as fits: `from_network`.

Every reader below knows the names of the weights in one package, and gives the network in our terms,

    x[t+1] = (1 - alpha) x[t] + alpha (J phi(x[t]) + W u[t] + b),    J = m n' / N.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit
from nwb_lint.errors import ContractError, MissingFileError, one_line
from nwb_lint.model.network import NONLINEARITIES, nonlinearity_of
from nwb_lint.model.simulate import with_run
from nwb_lint.options.checks import validated
from nwb_lint.options.trained_networks import NetworkOptions

Array = np.ndarray
Weights = dict[str, Array]

_TORCH_FILES = (".pt", ".pth", ".pkl", ".ckpt")
_NESTED = ("state_dict", "model_state_dict")  # keys of a checkpoint under which the weights are
_NO_INPUT = "none"
_POINTS = np.linspace(-2, 2, 9)  # where two functions are compared
_NEAR = 1e-5  # values of the same function differ by less
_SMALL = 1e-10  # singular values below this share of the largest are 0


class Converted(NamedTuple):
    """A network in our terms; None is what its file does not say.

    | field | dims | |
    |---|---|---|
    | m, n | neuron, rank | J = m n' / N |
    | J | neuron, neuron_from | in place of m and n |
    | weights | neuron, input | |
    | bias, initial | neuron | b, and x at the first step |
    | alpha, tau_s, nonlinearity | | alpha = dt_s / tau_s |
    | origin | | the package, in words |
    """

    weights: Array
    origin: str
    m: Array | None = None
    n: Array | None = None
    J: Array | None = None
    bias: Array | None = None
    initial: Array | None = None
    alpha: float | None = None
    tau_s: float | None = None
    nonlinearity: str | None = None


@validated(NetworkOptions)
def from_network(
    network: Mapping[str, Any] | str | Path | Any,
    *,
    dt_s: float | None = None,
    alpha: float | None = None,
    tau_s: float | None = None,
    nonlinearity: str | None = None,
    over_n: bool = True,
    names: Mapping[str, str] | None = None,
    trial: int | None = None,
    u: xr.Dataset | xr.DataArray | Array | None = None,
    n_bins: int = 100,
) -> xr.Dataset:
    """A network that other software trained or fitted, as a fit, so that `write_fit` and every analysis take it.

    The network is known by the names of its weights:

    ======================================  ==========================================================================
    from                                    weights
    ======================================  ==========================================================================
    a dict                                  ``m``, ``n`` (or ``J``), ``input_weights``; ``bias``, ``initial_activation``
    lowrank_inference, populations_paper    ``m``, ``n`` (or ``wrec``), ``wi``, ``si``, ``b``, ``h0``
    the same, of several populations        ``gaussian_basis``, ``supports``, ``m_weights``, …
    smc_rnns                                ``transition.m``, ``.n``, ``.h``, ``.Wu``, ``.decay_param``
    smc_rnns, networks that are fitted      ``rnn.m``, ``rnn.n``, ``rnn.w_inp``, ``rnn.b_rec``, ``x0``
    LtrRNN                                  a module with ``W_column``, ``W_row``, ``W_trial``; give ``trial``
    torch.nn.RNN                            ``weight_hh_l0``, ``weight_ih_l0``, …
    any other                               give ``names``
    ======================================  ==========================================================================

    The fit is the same network: `simulate` gives the activity of the original's forward pass without noise. The first
    of the two has a bias that its first step leaves out. A fit of smc_rnns is taken with inputs that the network
    filters, ``simulate_input=True``; LtrRNN integrates in steps of its own, which Euler steps of ``dt_s`` approach.
    Readouts and noise are not part of a fit.

    Parameters
    ----------
    network : mapping of str to array, path, or torch.nn.Module
        Weights by name; a file of these, ``.npz``, or ``.pt`` or ``.pkl`` with a ``state_dict``; or a module. Files
        that hold Python objects are refused, because reading them may run programs.
    dt_s : float or None, default=None
        Step of the network, s. None takes ``dt_s`` of the mapping.
    alpha : float or None, default=None
        dt / tau. None takes what the network says. Where the weights themselves depend on it (smc_rnns, torch.nn.RNN),
        another one is an error.
    tau_s : float or None, default=None
        Time constant, s, in place of ``alpha``.
    nonlinearity : str or None, default=None
        "tanh", "relu", "softplus", "linear" or "clipped_relu". None takes that of the module, else tanh; for smc_rnns
        it is needed, unless the network is a module.
    over_n : bool, default=True
        Whether J = m n' / N. False: J = m n'. Of a dict, and with ``names``.
    names : mapping of str to str or None, default=None
        Where weights are under other names: {"m": "rec.up.weight", "n": "rec.down.weight", …}. Matrices may be
        transposed, where their shape shows it.
    trial : int or None, default=None
        The trial whose network is taken, for LtrRNN.
    u : xarray.Dataset, xarray.DataArray, array (condition, time, input), or None, default=None
        Inputs of the fit, in steps of ``dt_s``. None makes a condition without input and one for each input, which is 1
        throughout.
    n_bins : int, default=100
        Number of bins of these conditions.

    Returns
    -------
    xarray.Dataset
        A fit with ``attrs["method"] = "converted"``. Its scores are NaN, since there is no recording.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ContractError
        If the network is none of these, lacks weights, or does not say its step or its time constant.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> weights = {"m": rng.normal(size=(20, 1)), "n": rng.normal(size=(20, 1)), "input_weights": np.ones((20, 1))}
    >>> fit = from_network(weights, dt_s=0.02, alpha=0.2)
    >>> fit["latent"].dims
    ('condition', 'time', 'rank')
    """
    module = network if hasattr(network, "state_dict") else None
    weights = _weights(network)
    found = _read(weights, module, names, over_n, nonlinearity, trial)
    dt_s, tau_s = _steps(weights, module, found, dt_s, alpha, tau_s)
    phi = nonlinearity or found.nonlinearity or _phi_of(module) or "tanh"
    nonlinearity_of(phi)
    return _fit(found, u, n_bins, {"dt_s": dt_s, "tau_s": tau_s, "nonlinearity": phi, "method": "converted"})


def _steps(
    weights: Weights, module: Any, found: Converted, dt_s: float | None, alpha: float | None, tau_s: float | None
) -> tuple[float, float]:
    """dt_s and tau_s: those that are given, else those that the network says."""
    single = [name for name in ("alpha", "tau_s", "dt_s") if np.size(weights.get(name, ())) == 1]
    told = {name: float(weights[name].flat[0]) for name in single}
    dt_s = told.get("dt_s") if dt_s is None else dt_s
    if alpha is None and tau_s is None:
        alpha, tau_s = told.get("alpha", found.alpha or _alpha_of(module)), told.get("tau_s", found.tau_s)
    if dt_s is None or (alpha is None) == (tau_s is None):
        what = "dt_s" if dt_s is None else "alpha or tau_s" if alpha is None else "either alpha or tau_s, and not both"
        raise ContractError(f"The network does not say its steps. from_network needs {what}. Pass it.")
    if tau_s is None:
        tau_s = dt_s / alpha if alpha else np.nan
    share = alpha if alpha is not None else dt_s / tau_s if tau_s else np.nan
    if not (dt_s > 0 and 0 < share <= 1):
        raise ContractError(
            f"dt_s is {dt_s:g}, and alpha, or dt_s / tau_s, is {share:g}. dt_s needs to be above 0, and alpha "
            "above 0 and at most 1. Pass these."
        )
    if found.alpha is not None and not np.isclose(share, found.alpha, rtol=1e-4):
        raise ContractError(
            f"alpha is {share:g}. The weights of {found.origin} are those of alpha {found.alpha:g}. Pass dt_s alone."
        )
    return dt_s, tau_s


# -- weights ----------------------------------------------------------------------------------------------------------


def _weights(network: Any) -> Weights:
    """Arrays by name, of a mapping, a file or a module."""
    if isinstance(network, str | Path):
        return weights_in(Path(network).expanduser())
    if hasattr(network, "state_dict"):
        network = network.state_dict()
    if not isinstance(network, Mapping):
        raise ContractError(
            f"network is a {type(network).__name__}. from_network needs weights by name, a path, or a torch module. "
            "Pass one of these."
        )
    found = {str(name): _array(value, str(name)) for name, value in network.items()}
    return {name: value for name, value in found.items() if value.dtype.kind in "biuf"}


def _array(value: Any, name: str = "value") -> Array:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ContractError(
            f"{name} is no array: its rows differ in length. Weights are arrays of numbers. Pass these."
        ) from error


def arrays_in(path: Path) -> dict[str, Array]:
    """The arrays of an npz file; ContractError where it is damaged, or holds Python objects."""
    try:
        with path.open("rb") as file:
            stored = np.load(file)
            if isinstance(stored, np.ndarray):
                raise ValueError("one array without a name")
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ContractError(f"{path} cannot be read ({one_line(error)}). Save arrays of numbers alone.") from error


def weights_in(path: Path) -> Weights:
    """The weights in a file; nothing in it is run."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file. A file of weights is needed. Check the path.")
    if path.suffix == ".npz":
        return _weights(arrays_in(path))
    if path.suffix not in _TORCH_FILES:
        raise ContractError(f"{path.name} is no file of weights. Pass .npz, or {', '.join(_TORCH_FILES)} of torch.")
    from nwb_lint.tasks._torch import load_weights

    content = load_weights(path)
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    return _weights(nested)


# -- readers ----------------------------------------------------------------------------------------------------------


def _read(
    weights: Weights, module: Any, names: Mapping[str, str] | None, over_n: bool, phi: str | None, trial: int | None
) -> Converted:
    """The network of the weights, by the first reader whose names are all there."""
    if names is not None:
        if lack := [name for name in names.values() if name not in weights]:
            raise ContractError(f"There are no weights {', '.join(lack)}. There are {', '.join(weights)}. Name these.")
        if unknown := [key for key in names if key not in _OUR_NAMES]:
            raise ContractError(f"names has {', '.join(unknown)}. It needs {', '.join(_OUR_NAMES)}. Rename these.")
        return _plain({key: weights[name] for key, name in names.items()}, over_n)
    if "W_column.weight" in weights:
        return _ltr_rnn(module, trial)
    if ({"m", "n"} <= set(weights) and "wi" not in weights) or "J" in weights:
        return _plain(weights, over_n)
    for needed, reader in _READERS.items():
        if set(needed.split()) <= set(weights):
            try:
                return reader(weights, module, phi)
            except ContractError:  # is a ValueError too
                raise
            except (ValueError, IndexError, KeyError, TypeError) as error:
                shapes = ", ".join(f"{name} {weights[name].shape}" for name in needed.split())
                raise ContractError(
                    f"The weights do not go together ({one_line(error)}). The shapes are {shapes}. Check them."
                ) from error
    raise ContractError(
        f"The names of the weights are those of no package that is known: {', '.join(list(weights)[:8]) or 'none'}. "
        "from_network needs m, n and input_weights. Say with names= where they are."
    )


def _plain(weights: Weights, over_n: bool) -> Converted:
    """A dict of ours."""
    unknown = set(weights) & _OTHER_NAMES.keys()
    if unknown:
        name = min(unknown)
        raise ContractError(f"The network has {name}. from_network reads {_OTHER_NAMES[name]}. Rename it.")
    J, m, n = (_matrix(weights[name], name) if name in weights else None for name in ("J", "m", "n"))
    if J is not None and not (m is None and n is None):
        raise ContractError("The network has J, and m or n. It needs either J, or m and n. Drop the others.")
    if J is None and (m is None or n is None):
        lack = " and no ".join(name for name, one in (("m", m), ("n", n)) if one is None)
        raise ContractError(f"The network has no {lack}. It needs m and n, or J. Add them.")
    size = len(J) if J is not None else max(max(one.shape) for one in (m, n) if one is not None)
    m, n = (None if one is None else _with_rows(one, size, name) for one, name in ((m, "m"), (n, "n")))
    if n is not None and not over_n:
        n = n * size
    given = _matrix(weights.get("input_weights", np.zeros((size, 0))), "input_weights")
    return Converted(
        _with_rows(given, size, "input_weights"), "weights by name", m, n, J, weights.get("bias"),
        weights.get("initial_activation"),
    )  # fmt: skip


_OUR_NAMES = ("m", "n", "J", "input_weights", "bias", "initial_activation")
_OTHER_NAMES = {
    "wi": "input_weights (neuron, input)", "I": "input_weights (neuron, input)",
    "b": "bias", "h0": "initial_activation", "x0": "initial_activation", "tau": "tau_s", "dt": "dt_s",
}  # fmt: skip


def _lowrank_inference(weights: Weights, module: Any, phi: str | None) -> Converted:
    """x = h + b, since the bias is inside of phi: h' = (1 - a) h + a (m n' phi(h + b) / N + u wi si)."""
    wi = np.atleast_2d(weights["wi"])
    wi = wi * weights.get("si", np.ones(len(wi)))[:, None]
    b = weights.get("b", np.zeros(wi.shape[1]))
    J = weights.get("wrec")
    m, n = (None, None) if J is not None else (weights["m"], weights["n"])
    return Converted(wi.T, "lowrank_inference", m, n, J, b, weights.get("h0", np.zeros_like(b)) + b)


def _populations(weights: Weights, module: Any, phi: str | None) -> Converted:
    """Vectors that are linear functions of a Gaussian basis in each population, and J = m n' without 1/N."""
    basis, supports = weights["gaussian_basis"], weights["supports"]

    def vectors(name: str) -> Array:
        linear = ((weights[f"{name}_weights"] @ basis) * supports).sum(axis=1)
        return (linear + weights.get(f"{name}_biases", np.zeros((1, len(supports)))) @ supports).T

    initial = ((weights["h0_weights"] @ basis) * supports).sum(axis=0)
    m, n = vectors("m"), vectors("n") * basis.shape[1]
    return Converted(vectors("wi"), "populations_paper_code", m, n, None, None, initial)


def _smc_rnns(weights: Weights, module: Any, phi: str | None) -> Converted:
    """z' = d z + n phi(m z + Wu v), v' = d v + (1 - d) u, where phi has a threshold h for each neuron."""
    part = {name.partition(".")[2]: value for name, value in weights.items() if name.partition(".")[0] in _SMC_PARTS}
    m, n, h = part["m"], part["n"].T, part["h"].ravel()
    if np.any(part.get("hz", 0)):
        raise ContractError("The latents have a bias (hz), which a low-rank network has not. It cannot be converted.")
    rate = next((part[name] for name in ("decay_param", "AW", "decay") if name in part), None)
    if rate is None:
        raise ContractError("The weights of smc_rnns have no decay_param. It says the time constant. Pass all weights.")
    alpha = 1 - float(np.exp(-np.exp(np.ravel(rate.astype(float))[0])))
    given = part.get("Wu", np.zeros((len(m), 0)))
    n = n * len(m) / alpha
    start = m @ weights["initial_state"] if "initial_state" in weights else np.zeros(len(m))
    phi = _needed(phi or _named_phi(getattr(module, "params", {}).get("activation")))
    if phi != "clipped_relu":
        return Converted(given, "smc_rnns", m, n, None, -h, start - h, alpha, None, phi)
    # relu(x + h) - relu(x) = h clip(x / |h| + (h > 0), 0, 1): each neuron in units of its threshold
    unit, above = np.where(h == 0, 1.0, np.abs(h)), (h > 0).astype(float)
    m, n, given = m / unit[:, None], n * h[:, None], given / unit[:, None]
    return Converted(given, "smc_rnns", m, n, None, above, start / unit + above, alpha, None, phi)


def _smc_teacher(weights: Weights, module: Any, phi: str | None) -> Converted:
    """The networks whose activity smc_rnns fits: x' = (1 - a) x + a (m n phi(x + b) / N + s u w)."""
    b, inner = weights["rnn.b_rec"], getattr(module, "rnn", None)
    given = (weights["rnn.w_inp"] * weights.get("rnn.w_inp_scale", np.ones(1))).T
    initial = np.ravel(weights.get("x0", np.zeros_like(b))) + b
    dt, tau = getattr(inner, "dt", None), getattr(inner, "tau", None)
    alpha = None if dt is None or tau is None else float(dt) / float(tau)
    m, n = weights["rnn.m"], weights["rnn.n"].T
    return Converted(given, _TEACHERS, m, n, None, b, initial, alpha, None, _needed(phi or _phi_of(inner)))


def _ltr_rnn(module: Any, trial: int | None) -> Converted:
    """One trial of a network whose connectivity differs between trials, a tensor (trial, neuron_from, neuron)."""
    if not all(hasattr(module, name) for name in _LTR_MEMBERS):
        raise ContractError("Weights of LtrRNN do not say how its connectivity is made. Pass the module, not its file.")
    W = _array(module.construct_weight())
    if trial is None or trial >= len(W):
        raise ContractError(f"LtrRNN has a network for each of {len(W)} trials. One is needed. Pass trial=.")
    left, values, right = np.linalg.svd(W[trial].T.astype(float))
    rank = min(max(1, int((values > _SMALL * values[0]).sum())), int(module.rank))
    parts = [_array(one) for one in module.construct_input_weight()]
    given = np.concatenate(parts, axis=1) if parts else np.zeros((len(left), 0))
    n = right[:rank].T * values[:rank] * len(left)
    bias = _array(module.construct_bias()) if module.bias else None
    initial = _array(module.get_initial_state(len(W)))[trial]
    return Converted(given, "LtrRNN", left[:, :rank], n, None, bias, initial, None, float(module.time_constant))


def _torch_rnn(weights: Weights, module: Any, phi: str | None) -> Converted:
    """torch.nn.RNN: h' = phi(W h + U u + b), so that x is what phi takes and alpha = 1."""
    if any(name.startswith("weight_hh_l1") or name.endswith("_reverse") for name in weights):
        raise ContractError("The torch.nn.RNN has several layers or directions. A fit has one. Give one layer.")
    J = weights["weight_hh_l0"]
    if J.shape[0] != J.shape[1]:
        raise ContractError("The module has gates, as LSTM and GRU. A fit has none. Give a torch.nn.RNN.")
    bias = weights.get("bias_ih_l0", np.zeros(len(J))) + weights.get("bias_hh_l0", np.zeros(len(J)))
    return Converted(weights["weight_ih_l0"], "torch.nn.RNN", None, None, J, bias, None, 1.0)


_LTR_MEMBERS = ("construct_weight", "construct_input_weight", "get_initial_state", "rank", "bias", "time_constant")
_SMC_PARTS = ("transition", "latent_step")
_TEACHERS = "smc_rnns, a network that is fitted"
_READERS: dict[str, Callable[[Weights, Any, str | None], Converted]] = {
    "wi m n": _lowrank_inference,
    "wi wrec": _lowrank_inference,
    "gaussian_basis supports m_weights n_weights wi_weights h0_weights": _populations,
    "transition.m transition.n transition.h": _smc_rnns,
    "latent_step.m latent_step.n latent_step.h": _smc_rnns,
    "rnn.m rnn.n rnn.w_inp rnn.b_rec": _smc_teacher,
    "weight_hh_l0 weight_ih_l0": _torch_rnn,
}


def _needed(phi: str | None) -> str:
    if phi is None:
        raise ContractError("Weights of smc_rnns do not say their nonlinearity. It is needed. Pass nonlinearity=.")
    return phi


def _alpha_of(module: Any) -> float | None:
    found = getattr(module, "alpha", None)
    return float(found) if isinstance(found, int | float) else None


def _phi_of(module: Any) -> str | None:
    """The name of the function phi that a module has; ContractError where it has another one than we know."""
    given = next((one for one in (getattr(module, key, None) for key in _PHI_ATTRIBUTES) if one is not None), None)
    if given is None or isinstance(given, str):
        return _named_phi(given)
    with suppress(Exception):  # of every kind, from what is not a function of one tensor
        values = _array(given(next(iter(module.state_dict().values())).double().new_tensor(_POINTS)))
        for name, one in NONLINEARITIES.items():
            if np.allclose(values, one.phi(_POINTS), atol=_NEAR):
                return name
    known = ", ".join(NONLINEARITIES)
    raise ContractError(f"phi of the module is none of {known}. A fit needs one of these. Pass nonlinearity=.")


_PHI_ATTRIBUTES = ("non_linearity", "nonlinearity", "activation")


def _named_phi(name: Any) -> str | None:
    return {"identity": "linear"}.get(name, name) if isinstance(name, str) else None


def _matrix(value: Array, name: str) -> Array:
    if not value.ndim:
        raise ContractError(f"{name} is one number. It needs a row for each neuron. Check its name.")
    return value[:, None] if value.ndim == 1 else value


def _with_rows(value: Array, rows: int, name: str) -> Array:
    """The matrix with a row for each neuron, transposed where it has a column for each."""
    if value.ndim == 2 and len(value) != rows and value.shape[1] == rows:
        value = value.T
    if value.ndim != 2 or len(value) != rows:
        raise ContractError(f"{name} has the shape {value.shape}. It needs {rows} rows, one a neuron. Check its name.")
    return value


# -- the fit ----------------------------------------------------------------------------------------------------------


def _fit(found: Converted, u: Any, n_bins: int, attrs: dict[str, Any]) -> xr.Dataset:
    """The network with its inputs and its run, and scores that are not known."""
    size, n_inputs = found.weights.shape
    weights = found.weights if n_inputs else np.zeros((size, 1))
    fit = _inputs(u, n_inputs, n_bins, attrs["dt_s"])
    _checked(fit["u"].values, "u", fit["u"].shape)
    fit = fit.assign_coords(neuron=[f"unit {k}" for k in range(size)], split=["train", "held_out"])
    pair = {"J": ("neuron", "neuron_from")} if found.J is not None else {name: ("neuron", "rank") for name in "mn"}
    shape = (size, size if found.m is None else found.m.shape[-1])
    for name, dims in pair.items():
        fit[name] = dims, _checked(getattr(found, name), name, shape)
    if found.J is not None:
        fit = fit.assign_coords(neuron_from=fit["neuron"].values)
    fit["input_weights"] = ("neuron", "input"), _checked(weights, "input_weights", weights.shape)
    for name, value in (("bias", found.bias), ("initial_activation", found.initial)):
        fit[name] = ("neuron",), _checked(np.zeros(size) if value is None else np.ravel(value), name, (size,))
    for name in ("r2", "r2_ceiling", "r2_median"):
        fit[name] = ("split",), np.full(2, np.nan)
    fit["r2_neuron"] = ("split", "neuron"), np.full((2, size), np.nan)
    fit.attrs = attrs | {"gauge": "none", "hidden": 0, "converted_from": found.origin}
    with np.errstate(over="ignore", invalid="ignore"):
        fit = with_run(fit)
    if not np.isfinite(fit["activity_pred"].values).all():
        raise ContractError(
            "The activity of the network grows to infinity. It needs to stay finite with these inputs. Pass smaller "
            "inputs as u=, or fewer bins."
        )
    check_fit(fit)
    return fit


def _checked(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """The values as finite numbers in this shape, or a ContractError."""
    value = np.array(value, float)
    if value.shape != shape or 0 in shape:
        needed = "sizes above 0" if 0 in shape else str(shape)
        raise ContractError(f"{name} has the shape {value.shape}. The network needs {needed}. Check {name}.")
    if bad := int((~np.isfinite(value)).sum()):
        raise ContractError(f"{name} has {bad} values that are not finite. All need to be. Check {name}.")
    return value


def _inputs(u: Any, n_inputs: int, n_bins: int, dt_s: float) -> xr.Dataset:
    """The inputs of the fit, and its time."""
    if isinstance(u, xr.DataArray | xr.Dataset):
        if isinstance(u, xr.Dataset) and "u" not in u:
            raise ContractError(f"u has the variables {', '.join(map(str, u)) or 'none'}. It needs u. Add it.")
        given = u["u"] if isinstance(u, xr.Dataset) else u
        if (
            given.dims != ("condition", "time", "input")
            or given.sizes["input"] != max(n_inputs, 1)
            or given.dtype.kind not in "biuf"
        ):
            raise ContractError(
                f"u has the sizes {dict(given.sizes)}. The network needs numbers (condition, time, input) with "
                f"{max(n_inputs, 1)} inputs. Pass these."
            )
        given = given.rename("u").astype(np.float32)
        if "time" not in given.coords:
            given = given.assign_coords(time=dt_s * np.arange(given.sizes["time"]))
        if given["time"].dtype.kind not in "iuf":
            raise ContractError(f"time of u is {given['time'].dtype}. It needs to be in seconds. Cast it to float.")
        if not np.allclose(np.diff(given["time"].values), dt_s, rtol=1e-3):
            raise ContractError(
                f"u has bins of {np.median(np.diff(given['time'].values)):g} s. The network has steps of {dt_s:g} s. "
                "Resample u."
            )
        return given.to_dataset()
    labels = [f"input {k + 1}" for k in range(n_inputs)] or [_NO_INPUT]
    if u is None:
        steps = np.eye(len(labels) + 1, len(labels), -1)[: n_inputs + 1]
        u = np.repeat(steps[:, None], n_bins, axis=1)
        conditions = ["no input", *labels][: n_inputs + 1]
    else:
        u = _array(u, "u")
        conditions = [f"condition {k + 1}" for k in range(len(u) if u.ndim else 0)]
        if u.ndim != 3 or u.shape[2] != len(labels) or u.dtype.kind not in "biuf":
            raise ContractError(
                f"u has the shape {u.shape}. The network needs numbers (condition, time, input) with {len(labels)} "
                "inputs. Pass these."
            )
    coords = {"condition": conditions, "time": dt_s * np.arange(u.shape[1]), "input": labels}
    return xr.Dataset({"u": (("condition", "time", "input"), u.astype(np.float32))}, coords)

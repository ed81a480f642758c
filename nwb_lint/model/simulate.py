"""Run a fitted network again from its Dataset alone, and rewrite it in the canonical gauge."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit
from nwb_lint.contract.columns import column_of, coords_along, find_column, input_names
from nwb_lint.drift import has_drift, loadings_of_conditions
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of, canonical_blocks
from nwb_lint.model.initial_conditions import COMMON, matched
from nwb_lint.model.network import Array, Network, canonical, drives, factors, filter_input, forward, nonlinearity_of
from nwb_lint.options.checks import validated
from nwb_lint.prepare import mask_of
from nwb_lint.rate_link import Link

GAUGE = "m orthonormal left singular vectors of m n'; n the right ones times singular values; sum of m³ positive"
GAUGE_OF_BLOCKS = f"in each block of areas: {GAUGE}"


def whole_input(dataset: xr.Dataset) -> Array:
    """Inputs of an activity or a fit over burn-in and time.

    Parameters
    ----------
    dataset : xarray.Dataset
        With ``u (condition, time, input)`` and perhaps ``u_burn_in (condition, burn_in, input)``.

    Returns
    -------
    array of shape (condition, burn-in + time, input), float32
    """
    parts = [dataset["u_burn_in"].values] if "u_burn_in" in dataset.variables else []
    return np.concatenate([*parts, dataset["u"].values], axis=1).astype(np.float32)


def network_of(fit: xr.Dataset) -> Network:
    """Parameters of a fit on arrays.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.

    Returns
    -------
    Network
        Its ``w`` has the columns inputs, bias and initial activation, as `network.drives` orders them.
    """
    w = np.column_stack([fit["input_weights"].values, fit["bias"].values, fit["initial_activation"].values])
    if "J" in fit:
        return Network(fit["J"].values, None, w)
    return Network(fit["m"].values, fit["n"].values, w)


def canonicalize(fit: xr.Dataset) -> xr.Dataset:
    """Rewrite a fit in the canonical gauge, with the same connectivity J = m n' / N.

    With m n' = U S V': m = U and n = V S. Columns come in order of falling singular value, and the entry of largest
    magnitude in each column of m is positive. The latents become kappa_new = m_new' m_old kappa_old. In a fit with
    areas this is done in each block by itself.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `read_fit`. Without m and n (``rank=None``) a copy is returned.

    Returns
    -------
    xarray.Dataset
        The fit with other ``m``, ``n (neuron, rank)`` and ``latent (condition, time, rank)``.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> m = canonicalize(mock_fit())["m"].values
    >>> bool(abs(m.T @ m - 1).max() < 1e-9)
    True
    """
    if "J" in fit:
        return fit.copy()
    blocks = blocks_of(fit)
    if blocks is None:
        m, n = canonical(fit["m"].values, fit["n"].values)
        to = m.T @ fit["m"].values
    else:
        m, n = canonical_blocks(blocks, fit["m"].values, fit["n"].values)
        to = np.where(blocks.together, m.T @ fit["m"].values, 0)
    out = fit.copy()
    out["m"], out["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    moved = {name: fit[name].values @ to.T for name in ("latent", "initial_mean") if name in fit}
    moved |= {name: to @ fit[name].values @ to.T for name in ("noise_cov", "initial_cov", "latent_cov") if name in fit}
    if has_drift(fit):
        moved["m_drift"] = np.einsum("irb,rs->isb", fit["m_drift"].values, np.linalg.inv(to))
    if "observation_cov" in fit:  # of level, input weights, m and its drift
        turns = np.kron(np.eye(1 + fit.sizes.get("basis", 0)), np.linalg.inv(to).T)
        turn = np.eye(fit.sizes["coefficient"])
        turn[-len(turns) :, -len(turns) :] = turns
        moved["observation_cov"] = turn @ fit["observation_cov"].values @ turn.T
    if "readout_weights" in fit:
        back = np.linalg.inv(to)
        moved["readout_weights"] = fit["readout_weights"].values @ back
        turn = np.eye(fit.sizes["readout_term"])
        turn[1 : 1 + len(back), 1 : 1 + len(back)] = back.T  # after the level; weights of inputs come last
        moved["readout_cov"] = turn @ fit["readout_cov"].values @ turn.T
    for name, values in moved.items():
        out[name] = fit[name].dims, values.astype(fit[name].dtype), fit[name].attrs
    out.attrs["gauge"] = GAUGE if blocks is None else GAUGE_OF_BLOCKS
    return out


@validated()
def simulate(
    fit: xr.Dataset,
    u: xr.Dataset | xr.DataArray | None = None,
    *,
    silence: object = None,
    initial: Array | None = None,
    factor: Array | xr.DataArray | None = None,
    drive: Array | xr.DataArray | None = None,
    noise: bool = False,
    spikes: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    """Run a fitted network freely.

    The network is x[t+1] = (1 - alpha) x[t] + alpha (m n' (factor phi(x[t])) / N + I u[t] + b + drive). If m of the fit
    drifts over trials, each condition has m of the trial of its label, or the mean m if it is no trial of the session.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `read_fit`.
    u : xarray.Dataset or xarray.DataArray, optional
        Other inputs (condition, time, input). A DataArray has no burn-in. A Dataset has ``u`` and perhaps
        ``u_burn_in``. None = the inputs of the fit.
    silence : array_like, optional
        Neurons whose output is 0: labels, positions or a boolean mask. N does not change.
    initial : array of shape (neuron,), optional
        x[0] of every condition. None = that of the fit; in a fit from `fit_trials`, that of the condition's group. Not
        for a fit from `fit_lint` with an initial activation for each group, not with ``noise``, and not if m drifts.
    factor : array of shape (neuron,) or (time, neuron), optional
        Factor on the output of each neuron: 0 silences, 1 changes nothing, above 1 excites. With time it is 1 during
        the burn-in, without time it applies to the burn-in as well.
    drive : array of shape (neuron,) or (time, neuron), optional
        Added to the input of each neuron, in units of the activity. With time it is 0 during the burn-in.
    noise : bool, default=False
        Draw the first latents and the noise of each step. Only for a fit from `fit_trials`.
    spikes : bool, default=False
        Draw spike counts from the rates, Poisson. Only for a fit from `fit_trials`.
    seed : int, default=0
        Seed of noise and spikes.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)``, dimensionless; ``latent (condition, time, rank)``;
        ``filtered_input (condition, time, input)``; ``rate (condition, time, neuron)`` in Hz if the preparation can be
        undone or the fit has ``log_rate``; ``count (condition, time, neuron)`` with ``spikes``.

    Raises
    ------
    ContractError
        If the Dataset is not a fit, the inputs have another number, other names or another bin, a neuron does not
        exist, or ``initial``, ``factor`` or ``drive`` has another shape.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> simulate(mock_fit())["activity"].dims
    ('condition', 'time', 'neuron')
    """
    check_fit(fit)
    if (noise and "noise_cov" not in fit) or (spikes and "log_rate" not in fit):
        raise ContractError(
            "The fit has no noise_cov or no log_rate: it is a network of mean activity. noise and spikes need one of "
            "single trials. Use fit_trials."
        )
    if noise and initial is not None:
        raise ContractError("initial and noise are both given. The noise draws x[0]. Leave one of them out.")
    out = run(fit, u, silence=silence, initial=initial, factor=factor, drive=drive, noise_seed=seed if noise else None)
    if spikes:
        mean = out["rate"].values * float(fit.attrs["dt_s"])
        drawn = np.random.default_rng([seed, 1]).poisson(np.nan_to_num(mean)).astype(np.uint16)
        out["count"] = out["rate"].dims, drawn, {"units": "1"}
    return out


def run(
    fit: xr.Dataset,
    u: xr.Dataset | xr.DataArray | None = None,
    *,
    silence: object = None,
    initial: Array | None = None,
    factor: Array | xr.DataArray | None = None,
    drive: Array | xr.DataArray | None = None,
    noise_seed: int | None = None,
    onto: Array | None = None,
) -> xr.Dataset:
    """`simulate` for a network with inputs that need not be a whole fit; the arguments and results are the same.

    ``onto`` (rank): the latents that silence and factor act on, in a run without noise; None = all.
    """
    network = network_of(fit)
    given = matched(fit, _given_inputs(fit, u), network)
    _check_inputs(fit, given, own=u is None)
    if initial is not None and has_drift(fit):
        raise ContractError("m of the fit drifts, and so does x[0]. It takes no initial. Use network_of_trial first.")
    if initial is not None:
        network.w[:, -1] = _checked_initial(fit, network, initial)
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    inputs = whole_input(given)
    skip = inputs.shape[1] - given.sizes["time"]
    gain = _over_time(given, network, factor, "factor", skip, burn_in=1.0)
    if silence is not None:
        silent = mask_of(fit["neuron"].values.astype(str), silence, "neuron", nobody=True)
        gain = np.where(silent, 0.0, 1.0 if gain is None else gain)
    added = _over_time(given, network, drive, "drive", skip, burn_in=0.0)
    q = drives(inputs, alpha, bias=True, initial=True)
    phi = fit.attrs.get("nonlinearity", "")
    if noise_seed is not None or has_drift(fit):
        x, kappa = _run_of_latents(fit, given, network, q, alpha, gain, added, noise_seed, onto)
    elif "initial_mean" in fit:
        x, kappa = _run_from_latents(fit, given, network, q, alpha, gain, added, by_group=initial is None, onto=onto)
    else:
        x, kappa = forward(network, q, alpha, phi, gain, added, onto)
    out: dict[str, tuple] = {"activity": (("condition", "time", "neuron"), x[:, skip:])}
    if network.n is not None:
        out["latent"] = ("condition", "time", "rank"), kappa[:, skip:]
    out["filtered_input"] = ("condition", "time", "input"), q[:, skip:, : inputs.shape[2]]
    if "scale" in fit and ("time" not in fit["offset"].dims or given.sizes["time"] == fit.sizes["time"]):
        rate = Link.of(fit).rate(x[:, skip:] * fit["scale"].values + fit["offset"].values)
        out["rate"] = ("condition", "time", "neuron"), rate.astype(np.float32), {"units": "Hz"}
    if "log_rate" in fit:
        level, x = fit["log_rate"].values, x[:, skip:].astype(float)
        soft = fit.attrs.get("link") == "softplus"
        rate = np.exp(level) * (np.logaddexp(x, 0) / np.log(2) if soft else np.exp(np.minimum(x, 40)))
        out["rate"] = ("condition", "time", "neuron"), rate.astype(np.float32), {"units": "Hz"}
    return xr.Dataset(out, coords_along(fit, "neuron") | coords_along(given, "condition", "time"))


def _run_from_latents(
    fit: xr.Dataset, given: xr.Dataset, network: Network, q: Array, alpha: float, gain: Array | None,
    added: Array | None, by_group: bool, onto: Array | None,
) -> tuple[Array, Array]:  # fmt: skip
    """x and kappa of a run without noise in which kappa[0] is not 0: the part of x[0] - b that m spans is m kappa[0].

    ``by_group``: conditions start from the mean of their group, apart from x[0], which all share, by m (kappa[0] - its
    mean).
    """
    m, x0 = network.m, network.w[:, -1]
    shared = np.linalg.lstsq(m, x0 - fit["bias"].values, rcond=None)[0]
    apart = by_group * (first_latents(fit, given) - fit["initial_mean"].values.mean(axis=0))
    decay = ((1 - alpha) ** np.arange(q.shape[1]))[:, None]
    own = decay * apart[:, None]
    wider = network._replace(w=np.column_stack([network.w, m]))
    drive = np.concatenate([q, own], axis=2).astype(q.dtype)
    x, kappa = forward(wider, drive, alpha, fit.attrs["nonlinearity"], gain, added, onto)
    return x, (kappa + own + decay * shared).astype(kappa.dtype)


def first_latents(fit: xr.Dataset, given: xr.Dataset) -> Array:
    """Mean of the first latents of each condition, (condition, rank), in a fit from `fit_trials`.

    It is that of the condition's group, and the mean of the groups where the group is not known.
    """
    mean, name = fit["initial_mean"].values, str(fit.attrs.get("initial", "common"))
    out = np.repeat(mean.mean(axis=0)[None], given.sizes["condition"], axis=0)
    if len(mean) > 1 and find_column(given, name, "condition") is not None:
        groups, levels = column_of(given, name).astype(str), fit["initial_level"].values.astype(str)
        for level, one in zip(levels, mean, strict=True):
            out[groups == level] = one
    return out


def _run_of_latents(
    fit: xr.Dataset, given: xr.Dataset, network: Network, q: Array, alpha: float, gain: Array | None,
    added: Array | None, seed: int | None, onto: Array | None,
) -> tuple[Array, Array]:  # fmt: skip
    """x (condition, time, neuron) and kappa, with first latents and noise that are drawn, or without noise."""
    m, n, w = factors(network)
    loadings = np.swapaxes(loadings_of_conditions(fit, given), 1, 2) if has_drift(fit) else None
    w = np.column_stack([w[:, :-1], fit["bias"].values])  # x[0] is m kappa[0] + b here
    rank, phi = m.shape[1], nonlinearity_of(fit.attrs["nonlinearity"]).phi
    rng = None if seed is None else np.random.default_rng([seed, 0])

    def drawn(name: str) -> Array | float:
        return 0.0 if rng is None else rng.multivariate_normal(np.zeros(rank), fit[name].values, len(q))

    kappa = first_latents(fit, given) + drawn("initial_cov")
    extra = None if added is None else filter_input(added[None].astype(float), alpha)[0]
    xs, kappas = np.empty((*q.shape[:2], len(m)), np.float32), np.empty((*q.shape[:2], rank), np.float32)
    for t in range(q.shape[1]):
        x = kappa @ m.T if loadings is None else (kappa[:, None] @ loadings)[:, 0]
        x = x + q[:, t] @ w.T + (0 if extra is None else extra[t])
        xs[:, t], kappas[:, t] = x, kappa
        r = phi(x)
        changed = r * (1 if gain is None else np.broadcast_to(gain, (q.shape[1], len(m)))[t])
        kappa = (1 - alpha) * kappa + alpha * (changed if onto is None else r) @ n / len(m)
        if onto is not None:
            kappa[:, onto] += alpha * (changed - r) @ n[:, onto] / len(m)
        kappa += drawn("noise_cov")
    return xs, kappas


def with_run(fit: xr.Dataset) -> xr.Dataset:
    """Add the free run on the fit's own inputs to a network.

    Parameters
    ----------
    fit : xarray.Dataset
        A network with its inputs ``u``.

    Returns
    -------
    xarray.Dataset
        With ``activity_pred``, ``filtered_input``, and ``latent`` if there are m and n.
    """
    found = run(fit)
    added: dict[str, tuple] = {"activity_pred": (found["activity"].dims, found["activity"].values, {"units": "1"})}
    added |= {name: (found[name].dims, found[name].values) for name in ("latent", "filtered_input") if name in found}
    return fit.assign(added)


def _given_inputs(fit: xr.Dataset, u: xr.Dataset | xr.DataArray | None) -> xr.Dataset:
    """The Dataset whose ``u`` drives the network."""
    if u is None:
        return fit
    given = u.to_dataset(name="u") if isinstance(u, xr.DataArray) else u
    if not isinstance(given, xr.Dataset):
        raise ContractError(
            f"u is a {type(u).__name__}. It needs to be a DataArray (condition, time, input). Pass what prepare "
            "returns, or fit['u'].copy(data=…)."
        )
    if "u" not in given.variables:
        raise ContractError(
            "The Dataset has no inputs u. simulate needs u (condition, time, input). Give what prepare returns."
        )
    if not np.isfinite(given["u"].values).all():
        raise ContractError("u has values that are not finite. Give a number for every condition and time.")
    return given


def _check_inputs(fit: xr.Dataset, given: xr.Dataset, own: bool) -> None:
    """Refuse inputs of another shape; and, unless they are the fit's own, of other names or another bin."""
    if given["u"].dims != ("condition", "time", "input") or given.sizes["input"] != fit.sizes["input"]:
        raise ContractError(
            f"u has dims {given['u'].dims} and {given['u'].sizes.get('input', 0)} inputs. It needs dims "
            f"(condition, time, input) and {fit.sizes['input']} inputs. Prepare the inputs as for the fit."
        )
    if own:
        return
    step = given.attrs.get("bin_s", fit.attrs["dt_s"])
    if not np.isclose(step, fit.attrs["dt_s"], rtol=1e-6):
        raise ContractError(
            f"u has bins of {step:g} s, but the network has steps of {fit.attrs['dt_s']:g} s. Prepare the inputs with "
            "the bins of the fit."
        )
    expected, names = input_names(fit), input_names(given)
    if "input" in fit.coords and "input" in given.coords and expected != names:
        raise ContractError(
            f"u has the inputs {', '.join(names)}. The fit has {', '.join(expected)}. Give these, in this order."
        )


def _checked_initial(fit: xr.Dataset, network: Network, initial: Array) -> Array:
    """x[0] (neuron), if the fit has one x[0] for all conditions."""
    if "initial_mean" not in fit and fit.attrs.get("initial", "zero") not in COMMON:
        raise ContractError(
            f"The fit has an x[0] for each {fit.attrs['initial']}, as inputs. It cannot take another. Change u instead."
        )
    start = np.asarray(initial, float)
    if start.shape != (network.n_neurons,) or not np.isfinite(start).all():
        raise ContractError(
            f"initial has shape {start.shape}. It must have one finite number for each of {network.n_neurons} neurons."
        )
    return start


def _over_time(given: xr.Dataset, network: Network, values, name: str, skip: int, *, burn_in: float) -> Array | None:
    """A factor or a drive at every step, (burn-in + time, neuron)."""
    if values is None:
        return None
    array = np.asarray(values, float)
    shape = (given.sizes["time"], network.n_neurons)
    if array.shape not in (shape, shape[1:]) or not np.isfinite(array).all():
        raise ContractError(
            f"{name} has shape {array.shape}. It must have finite numbers of shape (neuron,) or (time, neuron), here "
            f"{shape}."
        )
    if array.ndim == 1:
        return np.broadcast_to(array, (skip + shape[0], shape[1]))
    return np.concatenate([np.full((skip, shape[1]), burn_in), array])

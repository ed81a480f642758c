"""Student-teacher: stochastic low-rank networks whose activity Pals et al. fit, fitted again, beside their students."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.experiments.field.free_runs import binned_divergence
from nwb_lint.experiments.field.published import NOTES
from nwb_lint.experiments.field.published import STUDENT_REASONS as REASONS
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.model.network import canonical, filter_input, nonlinearity_of
from nwb_lint.statespace.data import arrays_of, system_of
from nwb_lint.statespace.fit import fit_trials
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.system import System
from nwb_lint.tasks.convert import from_network, weights_in

Array = np.ndarray

STEP_S, ALPHA = 0.01, 0.1  # of the teachers
NEEDED = (
    "It needs a clone of https://github.com/mackelab/smc_rnns, which has the teachers in data/student_teacher and the "
    "students in models/students. Name its folder with --data. --quick needs none."
)
_TEACHER = "data/student_teacher/{}_state_dict.pkl"
_STUDENT = "models/students/{}_state_dict_rnn.pkl"
_TAUS_S = (0.05, 0.1, 0.2)  # the fit of largest evidence is taken
_RELU = nonlinearity_of("relu").phi


class Design(NamedTuple):
    """How activity of a teacher is simulated, as in the notebooks of the authors, but for the number of trials.

    ``radius`` is the standard deviation of the first latents; ``latent_sd`` and ``sd`` are the noise of the latents and
    of the values. Without ``sd`` the values are spikes, Poisson with mean softplus(``gain`` x + ``offset``).
    """

    teacher: str
    student: str
    n_trials: int
    n_times: int
    radius: float
    latent_sd: float
    sd: float | None
    inputs: str = ""
    gain: float = 1.0
    offset: float = 0.0


DESIGNS = {
    "oscillation": Design("osc_rnn", "SW20_1000_new", 200, 75, 2.0, 0.2, 0.1),
    "oscillation, spikes": Design("osc_rnn_poisson", "Sine_Poisson", 100, 200, 2.0, 0.2, None, gain=4.0, offset=-3.0),
    "decision": Design("rdm_rnn", "rdm_student_new", 200, 100, 0.0, 0.05, 0.1, inputs="coherence"),
    "reach": Design("reach_rnn", "reach_vae_new", 100, 250, 0.0, 0.05, 0.05, inputs="direction"),
}
QUICK = Design("", "", 100, 75, 2.0, 0.2, 0.1)


# -- networks ---------------------------------------------------------------------------------------------------------


def stochastic(
    fit: xr.Dataset, noise: Array, variance: Array | None, observed: tuple[Array, Array] | None = None
) -> System:
    """A network of the clone with its noise, where values are x, or spikes of softplus(gain x + offset).

    In a Gaussian network the units are observed as they are, without b. With spikes the units that are observed have
    ``observed``, their gain and their offset, and the units of the network are hidden beside them.
    """
    m, n, weights, bias = (fit[name].values.astype(float) for name in ("m", "n", "input_weights", "bias"))
    rank, size = m.shape[1], len(m)
    kinds: dict[str, Any] = {"alpha": fit.attrs["dt_s"] / fit.attrs["tau_s"], "nonlinearity": "relu"}
    start, spread = np.zeros((1, rank)), 4.0 * np.eye(rank)
    if observed is None:
        assert variance is not None
        return System(m, n, weights, bias, -bias, variance, noise, start, spread, observation="gaussian", **kinds)
    gain, offset = observed
    m = np.concatenate([gain[:, None] * m, m])
    n, weights = np.concatenate([0 * n, 2 * n]), np.concatenate([gain[:, None] * weights, weights])
    level = np.full(size, np.log(np.log(2) / STEP_S))
    return System(
        m, n, weights, np.concatenate([offset, bias]), level, np.ones(size), noise, start, spread, link="softplus",
        **kinds,
    )  # fmt: skip


def teacher_of(design: Design, folder: Path) -> System:
    """The teacher with orthonormal m, in which its noise is isotropic."""
    path = folder / _TEACHER.format(design.teacher)
    fit = from_network(path, dt_s=STEP_S, alpha=ALPHA, nonlinearity="relu")
    m, n = canonical(fit["m"].values.astype(float), fit["n"].values.astype(float))
    return with_design(fit.assign(m=(("neuron", "rank"), m), n=(("neuron", "rank"), n)), design)


def with_design(fit: xr.Dataset, design: Design) -> System:
    """The network with the noise of a design."""
    size, noise = fit.sizes["neuron"], design.latent_sd**2 * np.eye(fit.sizes["rank"])
    if design.sd is not None:
        return stochastic(fit, noise, np.full(size, design.sd**2))
    return stochastic(fit, noise, None, (np.full(size, design.gain), np.full(size, design.offset)))


def student_of(design: Design, folder: Path) -> System:
    """The published student, with the noise that it has."""
    path = folder / _STUDENT.format(design.student)
    fit, weights = from_network(path, dt_s=STEP_S, nonlinearity="relu"), weights_in(path)
    raw = weights["R_z"].astype(float)
    factor = np.tril(raw, -1) + np.diag(np.exp(np.diag(raw) / 2)) if raw.ndim == 2 else np.diag(np.exp(raw / 2))
    noise = factor @ factor.T
    if design.sd is not None:
        variance = np.broadcast_to(np.exp(np.ravel(weights["R_x"]).astype(float)), fit.sizes["neuron"])
        return stochastic(fit, noise, variance)
    gain = np.diag(weights["observation.B"]).astype(float) ** 2
    return stochastic(fit, noise, None, (gain, np.ravel(weights["observation.Bias"]).astype(float)))


def simulated_teacher(size: int = 20, seed: int = 0) -> System:
    """A teacher of the same design as the first: rectified units with random m and b, and a limit cycle of radius 1."""
    rng = np.random.default_rng(seed)
    m, bias = np.linalg.qr(rng.standard_normal((size, 2)))[0], rng.uniform(-0.3, 0.3, size)
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-2, 2, 30)]), axis=-1).reshape(-1, 2)
    radius = np.linalg.norm(grid, axis=1, keepdims=True)
    turned = grid @ np.array([[np.cos(0.13), np.sin(0.13)], [-np.sin(0.13), np.cos(0.13)]])
    target = turned * (1 + 0.2 * (1 - radius)) - (1 - ALPHA) * grid
    features = _RELU(grid @ m.T + bias)
    n = np.linalg.solve(features.T @ features + 0.1 * np.eye(size), features.T @ target) * size / ALPHA
    noise = QUICK.latent_sd**2 * np.eye(2)
    kinds: dict[str, Any] = {"alpha": ALPHA, "nonlinearity": "relu", "observation": "gaussian"}
    return System(
        m, n, np.zeros((size, 1)), bias, -bias, np.full(size, 0.01), noise, np.zeros((1, 2)), 4 * np.eye(2), **kinds
    )


# -- activity ---------------------------------------------------------------------------------------------------------


def inputs_of(design: Design, n_trials: int, n_times: int, rng: np.random.Generator) -> Array:
    """u (trial, time, input), so that the filtered inputs are those that the teachers get."""
    if design.inputs == "coherence":
        u = 0.1 * rng.standard_normal((n_trials, n_times, 1))
        u[:, 5:45] += 0.1 * np.resize([-4, -2, -1, 1, 2, 4], n_trials)[:, None, None]
        return u
    if design.inputs == "direction":
        angle = 2 * np.pi * np.arange(n_trials) / 8
        v = np.zeros((n_trials, n_times + 1, 2))
        v[:, 25:50] = np.column_stack([np.cos(angle), np.sin(angle)])[:, None]
        return (v[:, 1:] - (1 - ALPHA) * v[:, :-1]) / ALPHA
    return np.zeros((n_trials, n_times, 1))


def simulated(system: System, design: Design, n_trials: int, n_times: int, seed: int) -> tuple[xr.Dataset, Array]:
    """Trials of a network as `read_trials` gives them, and their latents (trial, time, rank)."""
    rng = np.random.default_rng(seed)
    u = inputs_of(design, n_trials, n_times, rng)
    z, v = free_run(system, u, design.radius, rng), filter_input(u, system.alpha)
    n = system.n_neurons
    x = z @ system.m[:n].T + v @ system.weights[:n].T + system.bias[:n]
    if design.sd is not None:
        values = {"rate": x + system.level + design.sd * rng.standard_normal(x.shape)}
    else:
        values = {"count": rng.poisson(np.logaddexp(x, 0)).astype(np.uint16)}
    return trials_of(values, u if design.inputs else None), z


def trials_of(values: dict[str, Array], u: Array | None) -> xr.Dataset:
    """The Dataset of trials of some values (trial, time, neuron), with inputs."""
    (shape,) = (one.shape for one in values.values())
    data: dict[str, tuple] = {name: (("trial", "time", "neuron"), one) for name, one in values.items()}
    coords: dict[str, Any] = {
        "trial": np.arange(shape[0]),
        "time": STEP_S * np.arange(shape[1]),
        "neuron": np.arange(shape[2]).astype(str),
    }
    if u is not None:
        data["u"] = ("trial", "time", "input"), u
        coords["input"] = [f"input {k + 1}" for k in range(u.shape[2])]
    return xr.Dataset(data, coords, {"bin_s": STEP_S})


def free_run(system: System, u: Array, radius: float, rng: np.random.Generator) -> Array:
    """Latents (trial, time, rank) of a run with noise that begins at random angles, or at 0."""
    rank, v = system.rank, filter_input(u, system.alpha)
    phi = nonlinearity_of(system.nonlinearity).phi
    factor = np.linalg.cholesky(system.noise)
    z = np.zeros((*u.shape[:2], rank))
    if radius:
        angle, size = rng.uniform(0, 2 * np.pi, len(u)), radius * rng.standard_normal(len(u))
        z[:, 0] = size[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    z[:, 0] += rng.standard_normal((len(u), rank)) @ factor.T
    for t in range(1, u.shape[1]):
        r = phi(z[:, t - 1] @ system.m.T + v[:, t - 1] @ system.weights.T + system.bias)
        z[:, t] = (1 - system.alpha) * z[:, t - 1] + r @ system.n * (system.alpha / len(system.m))
        z[:, t] += rng.standard_normal((len(u), rank)) @ factor.T
    return z


# -- scores -----------------------------------------------------------------------------------------------------------


def activation(system: System, z: Array, v: Array) -> Array:
    """The mean values of the observed units, or what softplus takes to their mean counts, (…, neuron)."""
    n = system.n_neurons
    x: Array = z @ system.m[:n].T + v @ system.weights[:n].T + system.bias[:n]
    return x + system.level if system.observation == "gaussian" else softplus_of_scaled(x, scale_of(system))


def scale_of(system: System) -> Array:
    """The mean count of a bin is so many times softplus(x), (neuron)."""
    return np.exp(system.level) * STEP_S / np.log(2)


def softplus_of_scaled(x: Array, scale: Array) -> Array:
    """y with softplus(y) = scale softplus(x)."""
    mean = np.maximum(scale * np.logaddexp(x, 0), 1e-12)
    y: Array = mean + np.log(-np.expm1(-mean))
    return y


def latents_at(system: System, x: Array, v: Array) -> Array:
    """The latents (…, rank) at which the observed units have this activation, by least squares."""
    n = system.n_neurons
    own: Array = x - system.level if system.observation == "gaussian" else softplus_of_scaled(x, 1 / scale_of(system))
    return (own - v @ system.weights[:n].T - system.bias[:n]) @ np.linalg.pinv(system.m[:n]).T


def stepped(system: System, z: Array, v: Array) -> tuple[Array, Array]:
    """The mean of the latents a step later, and the matrix of its derivatives, mean over the states."""
    phi = nonlinearity_of(system.nonlinearity)
    x = z @ system.m.T + v @ system.weights.T + system.bias
    r = phi.phi(x)
    share = system.alpha / len(system.m)
    slope = phi.slope(x, r).reshape(-1, len(system.m)).mean(axis=0)
    matrix = (1 - system.alpha) * np.eye(system.rank) + share * (system.n * slope[:, None]).T @ system.m
    return (1 - system.alpha) * z + share * r @ system.n, matrix


def scores(found: System, teacher: System, design: Design, size: tuple[int, int], seed: int) -> dict[str, float]:
    """How well a network is the teacher, on new trials: all scores are the same in every gauge of the latents."""
    trials, z = simulated(teacher, design, *size, seed)
    u = trials["u"].values if "u" in trials else np.zeros((*size, 1))
    v, own_v = filter_input(u, teacher.alpha), filter_input(u, found.alpha)
    if "u" not in trials:
        v, own_v = (np.zeros((*size, one.weights.shape[1])) for one in (teacher, found))
    x = activation(teacher, z, v)
    next_z, true_matrix = stepped(teacher, z[:, :-1], v[:, :-1])
    kappa = latents_at(found, x[:, :-1], own_v[:, :-1])
    next_kappa, matrix = stepped(found, kappa, own_v[:, :-1])
    change = activation(teacher, next_z, v[:, 1:]) - x[:, :-1]
    # from where the network is: what its m cannot have of the activity is no error of the step
    error = activation(found, next_kappa, own_v[:, 1:]) - activation(found, kappa, own_v[:, :-1]) - change
    n = teacher.n_neurons
    turn = np.linalg.pinv(teacher.m[:n]) @ found.m[: found.n_neurons]
    if design.sd is None:  # m then has another unit, by the scale of softplus
        design_of_turn = np.concatenate([np.ones_like(kappa[..., :1]), kappa], axis=2).reshape(-1, 1 + found.rank)
        turn = np.linalg.lstsq(design_of_turn, z[:, :-1].reshape(-1, z.shape[2]), rcond=None)[0][1:].T
    noise = turn @ found.noise @ turn.T
    name = "rate" if design.sd is not None else "count"
    mean = posterior_of(found, arrays_of(trials, name, found.alpha))[0]
    shown, known = activation(found, mean, own_v), x
    if design.sd is None:  # rates, since far below a threshold the data say nothing of x
        shown, known = np.logaddexp(shown, 0), np.logaddexp(known, 0)
    left = ((shown - known) ** 2).sum() / ((known - known.mean(axis=(0, 1))) ** 2).sum()
    run = free_run(
        found, u if "u" in trials else np.zeros((*size, found.weights.shape[1])), 0.0, np.random.default_rng(seed + 1)
    )
    back = latents_at(teacher, activation(found, run, own_v), v)
    late = slice(size[1] // 2, None)
    true_j, j = (one.m[:n] @ one.n[:n].T * one.alpha / len(one.m) for one in (teacher, found))
    same_units = len(found.m) == len(teacher.m) == n
    full = [
        teacher.m[:n] @ (one - np.eye(len(one))) @ np.linalg.pinv(teacher.m[:n])
        for one in (true_matrix, turn @ matrix @ np.linalg.inv(turn))
    ]
    return {
        "r2_step": float(1 - (error**2).sum() / ((change - change.mean(axis=(0, 1))) ** 2).sum()),
        "r2_latents": float(1 - left),
        "noise": float(np.linalg.det(noise) ** (0.5 / len(noise)) / design.latent_sd),
        "j_eff": float(np.corrcoef(full[0].ravel(), full[1].ravel())[0, 1]),
        "j": float(np.corrcoef(true_j.ravel(), j.ravel())[0, 1]) if same_units else np.nan,
        "d_stsp": binned_divergence(z[:, late].reshape(-1, z.shape[2]), back[:, late].reshape(-1, z.shape[2])),
    }


def fitted(trials: xr.Dataset, rank: int, design: Design, seed: int, **options: Any) -> xr.Dataset:
    """The fit of largest evidence: with Gaussian values of the units alone, with spikes with hidden units too."""
    how: dict[str, Any] = {"rank": rank, "seed": seed, "nonlinearity": "relu"}
    if design.sd is not None:
        how |= {"observation": "gaussian", "hidden": 0, "bias": "fitted"}
    else:
        how |= {"link": "softplus", "hidden": 100}
    fits = [fit_trials(trials, tau_s=tau, **(how | options)) for tau in _TAUS_S]
    return max(fits, key=lambda one: float(one["evidence"].max()))


def measure(data: Path | None, *, task: str, model: str, seed: int, quick: bool) -> Result:
    """One row: the scores of the teacher itself, of the published student, or of a new fit.

    Without data the teacher is a simulated one.
    """
    design = DESIGNS.get(task, QUICK)
    true = simulated_teacher() if data is None else teacher_of(design, data)
    size = (40, 75) if quick else (100, max(design.n_times, 200))
    seconds = np.nan
    if model == "ours":
        trials, _ = simulated(true, design, design.n_trials, design.n_times, seed)
        start = process_time()
        found = system_of(fitted(trials, true.rank, design, seed))
        seconds = process_time() - start
    else:
        found = true if model == "teacher" or data is None else student_of(design, data)
    row = {"task": task, "model": model, "seed": seed} | scores(found, true, design, size, 1000 + seed)
    return {name: np.array([value]) for name, value in (row | {"seconds": seconds}).items()}


def tasks(setting: Setting) -> Tasks:
    """Quick: a simulated teacher. Full: every teacher of the clone, with its student, and a fit of each seed."""
    if setting.quick and setting.data is None:
        return [
            (None, {"task": "simulated", "model": model, "seed": 0, "quick": True}) for model in ("teacher", "ours")
        ]
    if setting.data is None:
        raise ContractError(f"student_teacher has no folder of networks. {NEEDED}")
    missing = [one for one in DESIGNS.values() if not (setting.data / _TEACHER.format(one.teacher)).is_file()]
    if missing:
        raise ContractError(f"{setting.data} lacks {_TEACHER.format(missing[0].teacher)}. {NEEDED}")
    names = list(DESIGNS)[:1] if setting.quick else list(DESIGNS)
    seeds = range(1 if setting.quick else setting.seeds)
    parts = [(name, model, 0) for name in names for model in ("teacher", "student")]
    parts += [(name, "ours", seed) for name in reversed(names) for seed in seeds]  # the longest first
    return [
        (setting.data, {"task": name, "model": model, "seed": seed, "quick": setting.quick})
        for name, model, seed in parts
    ]


SCORES = {
    "r2_step": ("R² of the change in a step", True),
    "j_eff": ("correlation of the mean effective connectivity", True),
    "j": ("correlation of J = m n' / N", True),
    "noise_error": ("relative error of the noise of the latents", False),
    "r2_latents": ("R² of the activity, or of the rates, at the posterior latents", True),
    "d_stsp": ("divergence of the states of a free run", False),
}


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of every score, (task, model)."""
    table = table.assign(noise_error=(table["noise"] - 1).abs())
    return table.groupby(["task", "model"], sort=False)[list(SCORES)].mean()


def compare(table: pd.DataFrame) -> Comparison:
    """The published students, scored here, and our fits."""
    mean = _means(table)
    return [
        Cell(f"{name}: {what}", float(mean.loc[(name, "student"), score]), float(mean.loc[(name, "ours"), score]),
             better, REASONS.get((name, score), REASONS.get(score, "")))
        for name in dict.fromkeys(table["task"])
        if (name, "student") in mean.index and (name, "ours") in mean.index
        for score, (what, better) in SCORES.items()
        if np.isfinite(mean.loc[(name, "student"), score])
    ]  # fmt: skip


def claims(table: pd.DataFrame) -> Claims:
    """The dynamics, the noise and the latents of each teacher are found."""
    found: Claims = []
    mean = _means(table)
    for name in dict.fromkeys(table["task"]):
        if not {(name, "ours"), (name, "teacher")} <= set(mean.index):
            continue
        ours, true = mean.loc[(name, "ours")], mean.loc[(name, "teacher")]
        found += [
            (f"{name}: the fit explains .9 of the change in a step ({ours['r2_step']:.3f})",
             bool(ours["r2_step"] >= 0.9)),
            (f"{name}: noise of the latents within 5 % ({100 * ours['noise_error']:.1f} %)",
             bool(ours["noise_error"] <= 0.05)),
            (f"{name}: latents as exact as with the teacher itself, within .005 of R² ({ours['r2_latents']:.4f}, "
             f"{true['r2_latents']:.4f})", bool(ours["r2_latents"] >= true["r2_latents"] - 0.005)),
        ]  # fmt: skip
    return found


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """A panel for each score, a line for each network, teachers along x."""
    table = table.assign(noise_error=(table["noise"] - 1).abs())
    return pd.concat(
        [
            pd.DataFrame({"panel": what, "line": table["model"], "x": table["task"], "y": table[score]})
            for score, (what, _) in SCORES.items()
        ],
        ignore_index=True,
    )


EXPERIMENT = Experiment(
    title="Student-teacher: stochastic low-rank networks found again",
    labels=("", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["student_teacher"],
    compare=compare,
)

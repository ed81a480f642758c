"""Single trials: figures of `fit_trials` beside their goals, on one real session and on simulated data with a truth.

Run it by hand: ``python benchmarks/trials.py`` runs every section, ``python benchmarks/trials.py NAME ...`` the named
ones, ``--list`` prints their names. The session comes from ``../shared/data``; its section is skipped without it.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.cluster.hierarchy import fclusterdata
from scipy.special import gammaln
from sections import run_sections

import nwb_lint as nl
from nwb_lint.experiments.field.alm000060 import (
    Split,
    choose_rank,
    mean_course,
    network_bits,
    session_in,
    smoothed_regression,
    split_of,
)
from nwb_lint.experiments.field.free_runs import linear_run
from nwb_lint.experiments.field.reconstruction import run_of, scores
from nwb_lint.model.network import effective_n, filter_input
from nwb_lint.statespace.data import arrays_of
from nwb_lint.statespace.inference import posterior_of, rates_of
from nwb_lint.statespace.system import System
from nwb_lint.tasks.generate import TASKS
from nwb_lint.tasks.teachers import load_teacher
from nwb_lint.tasks.train import train_network

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SESSION = SHARED / "alm000060" / "counts_50ms.npz"
ALM_GOALS = {0: (0.97, 0.98), 1: (0.97, 0.98), 2: (0.92, 0.93)}


def as_trials(count: np.ndarray, bin_s: float) -> xr.Dataset:
    """Counts (trial, time, neuron) as `read_trials` gives them."""
    n_trials, n_times, n = count.shape
    return xr.Dataset(
        {"count": (("trial", "time", "neuron"), count.astype(np.uint16))},
        coords={
            "trial": np.arange(n_trials),
            "time": bin_s * (np.arange(n_times) + 0.5),
            "neuron": np.arange(n).astype(str),
        },
        attrs={"bin_s": bin_s},
    )


def run(m, n, alpha: float, sd: float, first: np.ndarray, n_times: int, rng, drive=None) -> np.ndarray:
    """Latents (trial, time, rank) of a network with noise; ``drive`` (trial, time, unit) adds to x."""
    kappa, path = first, []
    for t in range(n_times):
        path.append(kappa)
        x = kappa @ m.T if drive is None else kappa @ m.T + drive[:, t]
        kappa = (1 - alpha) * kappa + alpha * np.tanh(x) @ n / len(m) + sd * rng.standard_normal(kappa.shape)
    return np.stack(path, axis=1)


def explained(true: np.ndarray, found: np.ndarray) -> float:
    """R² of the true latents by a linear function of the found ones."""
    x, y = found.reshape(-1, found.shape[-1]), true.reshape(-1, true.shape[-1])
    design = np.column_stack([np.ones(len(x)), x])
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - (left**2).sum() / ((y - y.mean(axis=0)) ** 2).sum()


def alm(seeds=(0, 1, 2), ranks=((6, 0.2), (8, 0.25))) -> None:
    """Co-smoothing of 13 held-out units in 51 held-out trials of a real session, beside linear dynamics.

    The splits and the scores are those of ``nwb-lint reproduce alm000060``.
    """
    for seed, split in alm_splits(seeds):
        for (rank, tau), goal in zip(ranks, ALM_GOALS[seed], strict=True):
            alm_score(f"split {seed} rank {rank}", split, goal, {"rank": rank, "tau_s": tau})
        linear = {"rank": 6, "tau_s": 0.2, "nonlinearity": "linear", "hidden": 0}
        alm_score(f"split {seed} rank 6, linear dynamics,", split, "none", linear)
        print(
            f"   split {seed}: Poisson regression on log smoothed counts {smoothed_regression(split):.3f}, means "
            f"{mean_course(split):.3f}"
        )


def alm_rank(seeds=(0, 1, 2), ranks=(6, 8, 10), taus=(0.1, 0.2, 0.3)) -> None:
    """The same at the tau, and then the rank, that `select_rank` scores highest on training trials.

    tau is chosen at the middle rank. Fits of the selection end after 12 iterations, which are too few for the last .01
    bits but keep the order of ranks.
    """
    for seed, split in alm_splits(seeds):
        start, middle = time.process_time(), ranks[len(ranks) // 2]
        by_tau = [float(choose_rank(split, (middle,), tau_s=tau)["rank_bits"][0, 1]) for tau in taus]
        tau = taus[int(np.argmax(by_tau))]
        table = choose_rank(split, ranks, tau_s=tau)
        bits = [", ".join(f"{one:.3f}" for one in ones) for ones in (by_tau, table["rank_bits"].values[:, 1])]
        cpu = time.process_time() - start
        print(f"   split {seed}, tau {taus} s: {bits[0]}; ranks {ranks}: {bits[1]}; {cpu:.0f} CPU s", flush=True)
        how = {"rank": int(table.attrs["rank"]), "tau_s": tau}
        alm_score(f"split {seed} chosen rank {how['rank']}", split, ALM_GOALS[seed][1], how)


def alm_splits(seeds):
    """Each seed with its split of the session."""
    if not SESSION.exists():
        print(f"   {SESSION} is not there: skipped")
        return
    counts = session_in(SESSION.parent)
    yield from ((seed, split_of(counts, seed)) for seed in seeds)


def alm_score(name: str, split: Split, goal, how: dict) -> None:
    """Fit the training trials, and print the bits per spike of the held-out units in the test trials."""
    cpu = time.process_time()
    bits, fit, wall = network_bits(split, **how)
    print(
        f"   {name} tau {how['tau_s']} s: {bits:.3f} bits per spike (goal {goal}), {wall:.0f} s for the fit, "
        f"{time.process_time() - cpu:.0f} CPU s with the score (goal 60), {len(fit['evidence'])} iterations, "
        f"{memory():.1f} GB (goal 1.5)",
        flush=True,
    )


def memory() -> float:
    """Largest memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def cycle(seed: int, n: int, hz: float) -> tuple:
    """A rank-2 limit cycle with random phases: m, n, latents, and spikes of 100 trials of 2 s.

    ``hz`` is the rate at x = 0, exp(c) of the model; mean rates are about twice as high.
    """
    rng, dt, tau = np.random.default_rng(seed), 0.01, 0.1
    m = rng.standard_normal((n, 2))
    back = m @ np.linalg.inv(m.T @ m / n) @ np.array([[1.8, -1.2], [1.2, 1.8]])
    kappa = run(m, back, dt / tau, 0.05, rng.standard_normal((100, 2)), 300, rng)[:, 100:]
    return m, back, kappa, as_trials(rng.poisson(dt * hz * np.exp(kappa @ m.T)), dt), tau


def period_of(m: np.ndarray, n: np.ndarray, bias: np.ndarray, alpha: float, first: np.ndarray) -> float:
    """Steps of one turn of the run without noise; NaN if it does not turn."""
    kappa, path = first, []
    for _ in range(3000):
        path.append(kappa)
        kappa = (1 - alpha) * kappa + alpha * np.tanh(kappa @ m.T + bias) @ n / len(m)
    path = np.array(path)[1000:]
    signal = path[:, 0] - path[:, 0].mean()
    up = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    return float(np.diff(up).mean()) if len(up) > 1 and signal.std() > 1e-3 else np.nan


def cycles(seeds=range(100, 105)) -> None:
    """Latents, effective connectivity and period of a limit cycle with random phases."""
    for n, hz, goal in ((60, 8, 0.985), (30, 4, 0.965)):
        for seed in seeds:
            m, back, kappa, trials, tau = cycle(seed, n, hz)
            cpu = time.process_time()
            fit = nl.fit_trials(trials, rank=2, tau_s=tau, hidden=0)
            cpu = time.process_time() - cpu
            mine, own = fit["m"].values, fit["n"].values
            truth = m @ effective_n(m, back, np.zeros((n, 0))).T
            found = mine @ effective_n(mine, own, np.zeros((n, 0))).T
            true_turn = period_of(m, back, 0.0, 0.1, kappa[0, 0])
            turn = period_of(mine, own, fit["bias"].values, 0.1, fit["latent"].values[0, 0].astype(float))
            r2 = explained(kappa, fit["latent"].values)
            level, mean_hz = np.full(n, np.log(hz)), float(trials["count"].mean() / trials.attrs["bin_s"])
            best = under_truth(fit, trials, kappa, m=m, n=back, log_rate=level, noise_cov=0.05**2 * np.eye(2))
            print(
                f"   {n} units {hz} Hz ({mean_hz:.1f} in the mean) seed {seed}: latents {r2:.4f} (goal {goal}; with "
                f"the true parameters {explained(kappa, best):.4f}), "
                f"J_eff {np.corrcoef(truth.ravel(), found.ravel())[0, 1]:.3f} (goal .98), period "
                f"{turn / true_turn:.3f} of the true one (goal 1 ± .02), {cpu:.0f} CPU s",
                flush=True,
            )


def under_truth(fit: xr.Dataset, trials: xr.Dataset, kappa: np.ndarray, **network: np.ndarray) -> np.ndarray:
    """Latents from the posterior of a network of which all is known; ``kappa`` gives its noise at the start."""
    rank = kappa.shape[2]
    true = fit.assign({name: (fit[name].dims, values) for name, values in network.items()})
    true = true.assign(bias=0 * fit["bias"]).drop_vars("observation_cov")
    true["initial_mean"] = ("group", "rank"), kappa[:, 0].mean(axis=0)[None]
    true["initial_cov"] = ("rank", "rank_from"), np.cov(kappa[:, 0].T).reshape(rank, rank)
    return nl.infer_latents(true, trials)["latent"].values


def choices(seeds=range(100, 110)) -> None:
    """Choices that noise makes in a bistable network of rank 1."""
    for sd, hz, goal in ((0.15, 15, 0.93), (0.3, 15, 0.91), (0.3, 6, 0.86)):
        right, found = 0, []
        for seed in seeds:
            rng, n, dt = np.random.default_rng(seed), 50, 0.02
            m = rng.standard_normal((n, 1))
            back = 1.6 * m / (m**2).mean()
            kappa = run(m, back, 0.2, sd * 0.45, np.zeros((240, 1)), 60, rng)
            rate = np.exp(kappa @ m.T)
            trials = as_trials(rng.poisson(dt * hz * rate / rate.mean(axis=(0, 1))), dt)
            fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0)
            stability = sorted(nl.fixed_points(fit, n_starts=50)["stability"].values)
            right += stability == ["stable", "stable", "unstable"]
            found.append(abs(np.corrcoef(kappa.ravel(), fit["latent"].values.ravel())[0, 1]))
        print(
            f"   noise {sd} at {hz} Hz: two stable points and one unstable in {right} of {len(found)} (goal 9 of 10), "
            f"latents {np.mean(found):.3f}, least {min(found):.3f} (goal {goal})",
            flush=True,
        )


def calibration(seeds=range(100, 103)) -> None:
    """Share of true latents and rates in intervals of 90 %."""
    for seed in seeds:
        m, _, kappa, trials, tau = cycle(seed, 40, 8)
        fit = nl.fit_trials(trials, rank=2, tau_s=tau, hidden=0)
        found = nl.predict_rates(fit, trials)
        rate = 8 * np.exp(kappa @ m.T)
        inside = float(((found["rate_low"].values < rate) & (rate < found["rate_high"].values)).mean())
        mean, spread = fit["latent"].values.reshape(-1, 2), fit["latent_cov"].values.reshape(-1, 2, 2)
        to = np.linalg.lstsq(np.column_stack([np.ones(len(mean)), mean]), kappa.reshape(-1, 2), rcond=None)[0]
        width = 1.645 * np.sqrt(np.einsum("ik,tij,jk->tk", to[1:], spread, to[1:]))
        middle = to[0] + mean @ to[1:]
        latent = float((np.abs(kappa.reshape(-1, 2) - middle) < width).mean())
        print(f"   seed {seed}: latents {latent:.3f}, rates {inside:.3f} (goal .85 to .95)", flush=True)


TEACHERS = {"cdm": (0.03, 0.98), "wm": (0.02, 0.96), "dms": (0.02, 0.99)}


def teachers(seeds=(100, 101, 102), tasks=tuple(TEACHERS), hz: float = 8) -> None:
    """Published networks with latent noise: log rates of 60 of 512 units in held-out single trials.

    The log rate is log(hz) + .8 x / (standard deviation of x over all trials, times and units).
    """
    for task in tasks:
        path, (sd, goal) = SHARED / "teachers" / f"{task}.npz", TEACHERS[task]
        if not path.exists():
            print(f"   {path} is not there: skipped")
            continue
        network, alpha = load_teacher(path), 0.2
        m, n, weights = (network[name].values.astype(float) for name in ("m", "n", "input_weights"))
        for seed in seeds:
            rng, u = np.random.default_rng(seed), TASKS[task](200, seed=seed)["u"]
            drive = filter_input(u.values.astype(float), alpha) @ weights.T
            first = np.zeros((200, m.shape[1]))
            kappa, free = (run(m, n, alpha, size, first, u.sizes["time"], rng, drive) for size in (sd, 0.0))
            units = rng.choice(len(m), 60, replace=False)
            x, mean_x = (one @ m[units].T + drive[..., units] for one in (kappa, free))
            gain, level = np.full(60, 0.8 / x.std()), np.full(60, np.log(hz))
            true = gain * x
            trials = as_trials(rng.poisson(0.02 * np.exp(true + level)), 0.02).assign(u=u.drop_vars(["trial", "time"]))
            cpu = time.process_time()
            fit = nl.fit_trials(trials, rank=m.shape[1], tau_s=0.1, test_size=40)
            cpu = time.process_time() - cpu
            held, recorded = fit["held_out"].values, fit["recorded"].values
            found = nl.predict_rates(fit, trials.isel(trial=held))["rate"].values
            run_ = fit["activity_pred"].values[held][..., recorded] + fit["log_rate"].values[recorded]
            known = true_posterior(m, n, weights, units, gain, level, sd, alpha, trials.isel(trial=held))
            true = (true + level)[held]
            scores = [share(true, one) for one in (np.log(found), known, run_, (gain * mean_x + level)[held])]
            print(
                f"   {task} {hz} Hz seed {seed}: log rates {scores[0]:.3f} (goal {goal}; with the true parameters "
                f"{scores[1]:.3f}), free run {scores[2]:.3f} (true network without noise {scores[3]:.3f}), {cpu:.0f} "
                f"CPU s, {len(fit['evidence'])} iterations",
                flush=True,
            )


def share(true: np.ndarray, found: np.ndarray) -> float:
    """R² about the mean of every neuron."""
    return 1 - ((true - found) ** 2).sum() / ((true - true.mean(axis=(0, 1))) ** 2).sum()


def true_posterior(m, n, weights, units, gain, level, sd, alpha, trials) -> np.ndarray:
    """Log rates from the posterior of the network itself, whose units are hidden beside 60 that are read from them."""
    rank, seen = m.shape[1], len(units)
    system = System(
        m=np.concatenate([gain[:, None] * m[units], m]), n=np.concatenate([np.zeros((seen, rank)), n]),
        weights=np.concatenate([gain[:, None] * weights[units], weights]), bias=np.zeros(seen + len(m)), level=level,
        variance=np.ones(seen), noise=sd**2 * np.eye(rank), start=np.zeros((1, rank)), spread=1e-6 * np.eye(rank),
        alpha=alpha,
    )  # fmt: skip
    system = system._replace(n=system.n * len(system.n) / len(m))
    arrays = arrays_of(trials, "count", alpha)
    mean, covariance, _ = posterior_of(system, arrays)
    return np.log(rates_of(system, arrays, mean, covariance)[0])


def full_rank(seeds=(0, 1, 2, 3), ranks=(1, 2, 3), size: int = 256) -> None:
    """Networks of full rank, trained on CDM with g = .8: the rank that is found, and the attractors of both contexts.

    The rank is chosen from 200 trials, and the attractors are those of its fit. Those of a fit of rank 3 to 800 trials
    are beside them: they say what more data would determine.
    """
    for seed in seeds:
        network = train_network("cdm", n_neurons=size, g=0.8, seed=seed)
        cpu, (trials, x) = time.process_time(), _spikes_of(network, 200, seed)
        table = nl.select_rank(trials, ranks=ranks, tau_s=0.1, folds=4)
        rank, bits = int(table.attrs["rank"]), ", ".join(f"{one:.4f}" for one in table["rank_bits"].values[:, 1])
        print(
            f"   seed {seed}: rank {rank} (goal 1 or 2), bits per spike of ranks {ranks}: {bits}, "
            f"{time.process_time() - cpu:.0f} CPU s",
            flush=True,
        )
        _print_attractors(network, trials, x, rank)
        _print_attractors(network, *_spikes_of(network, 800, seed), 3)


def _spikes_of(network: xr.Dataset, n_trials: int, seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """Spikes of 60 units in trials with private noise, 8 Hz in the mean, and x (trial, time, unit) of all units."""
    j, weights = network["J"].values.astype(float), network["input_weights"].values.astype(float)
    task, rng = TASKS["cdm"](n_trials, seed=seed + 100), np.random.default_rng(seed)
    u = task["u"].values.astype(float)
    x = full_run(j, weights, np.zeros((n_trials, len(j))), u, 0.2, 0.05, rng)
    true = x[..., rng.choice(len(j), 60, replace=False)]
    true = 0.8 * true / true.std(axis=(0, 1))
    true += np.log(8 / np.exp(true).mean(axis=(0, 1)))
    return as_trials(rng.poisson(0.02 * np.exp(true)), 0.02).assign(u=task["u"].drop_vars(["trial", "time"])), x


def _print_attractors(network: xr.Dataset, trials: xr.Dataset, x: np.ndarray, rank: int, alpha: float = 0.2) -> None:
    """Fit, and count where runs without noise and stimulus end, from the states at the ends of trials."""
    j, weights = network["J"].values.astype(float), network["input_weights"].values.astype(float)
    fit, u = nl.fit_trials(trials, rank=rank, tau_s=0.1), trials["u"].values.astype(float)
    m, n, mine = (fit[name].values for name in ("m", "n", "input_weights"))
    v, found = filter_input(u, alpha)[:, -1], []
    for context in (2, 3):
        these, cue = u[:, u.shape[1] // 2, context] > 0.5, np.eye(4)[context]
        end = full_run(j, weights, x[these, -1], np.broadcast_to(cue, (these.sum(), 1000, 4)), alpha)[:, -1]
        kappa = fit["latent"].values[these, -1].astype(float)
        fading = cue + (v[these] - cue)[:, None] * ((1 - alpha) ** np.arange(1000))[:, None]
        drive = fading @ mine.T + fit["bias"].values
        kappa = run(m, n, alpha, 0.0, kappa, 1000, np.random.default_rng(0), drive)[:, -1]
        found.append(f"context {context - 1}: {n_places(end)} in the network, {n_places(kappa)} in the fit")
    print(f"   attractors, {len(u)} trials, rank {rank}: {'; '.join(found)}", flush=True)


def full_run(j, weights, x, u, alpha: float, sd: float = 0.0, rng=None) -> np.ndarray:
    """x (trial, time, unit) of a network of full rank, perhaps with private noise."""
    path = []
    for step in u.swapaxes(0, 1):
        path.append(x)
        x = (1 - alpha) * x + alpha * (np.tanh(x) @ j.T + step @ weights.T)
        x = x if rng is None else x + sd * rng.standard_normal(x.shape)
    return np.stack(path, axis=1)


def n_places(states: np.ndarray) -> int:
    """How many places states (trial, dim) are at, a tenth of their size apart or more."""
    return len(np.unique(fclusterdata(states, 0.1 * np.sqrt((states**2).sum(axis=1).mean()), "distance")))


def particles(times: float = 50.0, reports: int = 10) -> None:
    """Spikes of a noisy oscillator, 40 units, 90 s, beside the public particle code of Pals et al. 2024.

    Bits per spike are those of the log evidence of 30 s that follow. Spikes, code and its options are those of the
    tutorial of github.com/mackelab/smc_rnns, which is trained so many times as long as the fit here takes. A clone, and
    its folder vi_rnn, have to be on PYTHONPATH.
    """
    try:
        import trials_particles
    except ImportError as error:
        print(f"   skipped ({error})")
        return
    y = trials_particles.tutorial_spikes(12_000)
    train, test = y[:9000], y[9000:]
    mean = train.mean(axis=0)
    base = (test * np.log(mean) - mean - gammaln(test + 1.0)).sum()

    def bits(log_evidence: float) -> float:
        return (log_evidence - base) / np.log(2) / test.sum()

    cpu = time.process_time()
    fit = nl.fit_trials(as_trials(train[None], 0.01), rank=2, tau_s=0.1, link="softplus", hidden=0)
    cpu = time.process_time() - cpu
    found = bits(float(nl.infer_latents(fit, as_trials(test[None], 0.01))["evidence"].sum()))
    print(f"   fit_trials: {found:.3f} bits per spike after {cpu:.0f} CPU s", flush=True)
    trials_particles.train(train, test, bits, times * cpu, times * cpu / reports)


EEG, EEG_HZ, EEG_STEP = SHARED / "eeg" / "eeg.npy", 160, 5
EEG_GOALS = "goals 2.3 and .15, aims 2.0 and .105; Pals et al. 2024, rank 3, 20 runs: 2.29 and .105"


def eeg(seeds=(0, 1, 2), taus=(0.035, 0.04, 0.05), runs: int = 3) -> None:
    """One long recording of 64 channels, rank 3: free runs with noise, beside linear models.

    The recording is smoothed (Hann window of 94 ms) and has no power above 16 Hz, so that every fifth sample says all.
    Runs are interpolated to 160 Hz, and scored there. tau is the one of largest evidence.
    """
    if not EEG.exists():
        print(f"   {EEG} is not there: skipped")
        return
    y = np.load(EEG).astype(float)
    few, dt = y[::EEG_STEP], EEG_STEP / EEG_HZ
    skipped = 2400 // EEG_STEP
    for name, pieces in (("all 64 channels", None), ("3 principal components", 3)):
        free = [linear_run(few, len(few), skipped, np.random.default_rng(k), pieces) for k in range(runs)]
        print(f"   VAR(2) of {name}: {_eeg_scores(y, free)}", flush=True)
    long = xr.Dataset(
        {"rate": (("trial", "time", "neuron"), few[None])},
        {"trial": [0], "time": dt * np.arange(len(few)), "neuron": np.arange(64).astype(str)}, {"bin_s": dt},
    )  # fmt: skip
    for phi in ("linear", "tanh"):
        for seed in seeds:
            cpu, how = time.process_time(), {"rank": 3, "observation": "gaussian", "nonlinearity": phi, "seed": seed}
            fits = [nl.fit_trials(long, tau_s=tau, **how) for tau in taus]
            cpu, fit = time.process_time() - cpu, max(fits, key=lambda one: one["evidence"].values.max())
            free = [run_of(fit, len(few), skipped, k) for k in range(runs)]
            print(
                f"   {phi}, seed {seed}: {_eeg_scores(y, free)} ({EEG_GOALS}), tau {fit.attrs['tau_s']} s, {cpu:.0f} "
                "CPU s",
                flush=True,
            )


def _eeg_scores(y: np.ndarray, free: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Divergence and distance of means of channels, as they are, and of values, smoothed and scaled like the data."""
    a, b, c, d = np.mean([list(scores(y, *one, smoothed=True).values()) for one in free], axis=0)
    return f"states {a:.2f}, spectra {b:.3f}; values smoothed again {c:.2f}, {d:.3f}"


def scale() -> None:
    """Time and memory of large data, and how the time of ten iterations grows."""
    ten = {"max_iter": 10, "tol": 0}
    sizes = (100, 50, 100), (200, 50, 100), (100, 100, 100), (100, 50, 200)
    base, *others = (_timed(*size, **ten)[0] for size in sizes)
    for what, seconds in zip(("neurons", "trials", "time"), others, strict=True):
        print(f"   exponent in {what}: {np.log2(seconds / base):.2f} (goal 1.1)", flush=True)
    large, fit = _timed(1000, 500, 150)
    print(
        f"   1000 units, 500 trials, 150 bins, rank 4: {large:.0f} CPU s (goal 600 s on two cores), "
        f"{len(fit['evidence'])} iterations, {memory():.1f} GB (goal 8)"
    )


def _timed(n: int, n_trials: int, n_times: int, **options: float) -> tuple[float, xr.Dataset]:
    """CPU seconds of a fit of rank 4, and the fit."""
    rng = np.random.default_rng(100)
    m = rng.standard_normal((n, 4))
    kappa = run(m, 1.5 * m, 0.1, 0.1, rng.standard_normal((n_trials, 4)), n_times, rng)
    trials = as_trials(rng.poisson(0.2 * np.exp(0.3 * kappa @ m.T)), 0.02)
    cpu = time.process_time()
    fit = nl.fit_trials(trials, rank=4, tau_s=0.2, hidden=0, **options)
    return time.process_time() - cpu, fit


SECTIONS = {
    "alm": alm,
    "alm_rank": alm_rank,
    "cycles": cycles,
    "choices": choices,
    "calibration": calibration,
    "teachers": teachers,
    "full_rank": full_rank,
    "particles": particles,
    "eeg": eeg,
    "scale": scale,
}


if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)

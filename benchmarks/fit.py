"""`fit_lint` beside the published loop (`method="published"`) in one run: `python benchmarks/fit.py [PART ...]`.

teachers  the four published networks, observation noise of 0, .5, 1 and 2 sd: R² of rates on test trials against the
          noise-free truth, ECC and CC (Pearson correlation of effective and of raw connectivity), seconds
networks  full-rank networks trained here on CDM and DMS: R² of rates on test trials against the noise-free truth, ours
          and the published loop's after ``--epochs`` (give 100); rank "all" = rank=None; last, the CPU seconds after
          which the gradient stage of ours stood at the loop's R² or above, by the best network of a descent until then
          (the first it looks at is the regressions'), and their ratio to the loop's
units     few noisy units: 51 of 512 at .5 sd, 10 at .1 sd, these by the closed form with 100 hidden units
cost      one loss and gradient of 800 x 68 x 512 at rank 1 beside a bare tanh over that array, and how the cost grows
          with conditions, time and neurons

``--authors FOLDER`` (a clone of https://github.com/adrian-valente/lowrank_inference) puts the authors' own code beside
both on the teachers (`benchmarks/authors.py`); our published loop is the same in fewer operations.

The grid of networks takes hours of the loop; ``--keep`` gathers it over several runs, ``--again`` measures ours anew
beside what is kept of the peers. `benchmarks/networks.txt`, `teachers.txt` and `units.txt` are what was measured so
far, one thread of each, two cores with other work beside, ours after the peers; the loop's CPU seconds on DMS of 1024
neurons and g = 1, ranks 2 to 5, are of another machine's cores, at about the same pace. `teachers_two_threads.txt` is
one run of both, with nothing beside.

Every line is one fit of each (of fits of less than 2 s the median of five more), after a small one so that no import
counts; ratios = seconds, and CPU seconds, of the published loop / ours: the latter say more where other work is about.
FOLDER (``--folder``) holds dm.npz, wm.npz, cdm.npz and dms.npz.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from authors import authors_fit

import nwb_lint as nl
from nwb_lint.experiments.measures import connectivity_scores, noise_free_rates, rates_r2
from nwb_lint.model.simulate import run
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.teachers import load_teacher
from nwb_lint.tasks.train import train_network
from nwb_lint.testing import mock_activity

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "teachers"
TASKS = ["dm", "wm", "cdm", "dms"]
FEW_UNITS = ((51, 0.5, {}), (10, 0.1, {"hidden": 100, "method": "regression"}))  # units seen, noise in sd, our options
COST_SHAPE = (800, 68, 512)  # condition, time, neuron
LOOP = ("published",)
SHORT_S, SHORT_REPEATS = 2.0, 5  # a fit of fewer seconds is run so often again, and the median counts
REPEATS = 15  # of the cost: turn about, the best of each counts


class Spent(NamedTuple):
    """Seconds that a fit took, of the clock and of all processors together."""

    seconds: float
    cpu_s: float


class Score(NamedTuple):
    """One fit against the known network; ``passed`` gives the CPU seconds that it took to an R², NaN = never."""

    r2: float
    ecc: float
    cc: float
    spent: Spent
    passed: Callable[[float], float] | None = None


class Looked(NamedTuple):
    """A network that a descent looked at: after how many CPU seconds of the process, on which conditions, its loss."""

    cpu_s: float
    conditions: int
    loss: float
    network: list[np.ndarray]


def timed(activity: xr.Dataset, **options: object) -> tuple[xr.Dataset, Spent]:
    """A fit and what it took; of a short one the median of several, since memory that the system has to find first
    costs as much as the fit.
    """
    fit, spent = spent_on(lambda: nl.fit_lint(activity, **options))  # type: ignore[arg-type]
    if spent.seconds > SHORT_S:
        return fit, spent
    spents = [spent_on(lambda: nl.fit_lint(activity, **options))[1] for _ in range(SHORT_REPEATS)]  # type: ignore[arg-type]
    return fit, Spent(*np.median(spents, axis=0).tolist())


def spent_on(work: Callable[[], Any]) -> tuple[Any, Spent]:
    """What a function returns and what it took."""
    start, cpu = perf_counter(), process_time()
    found = work()
    return found, Spent(perf_counter() - start, process_time() - cpu)


@contextmanager
def watched() -> Iterator[list[Looked]]:
    """The networks whose held-out loss descents look at meanwhile."""
    from nwb_lint.model._torch import Problem

    seen: list[Looked] = []
    whole = Problem.loss

    def loss(problem: Problem, *network: np.ndarray) -> float:
        found = whole(problem, *network)
        which = problem.__dict__.setdefault("number", len(seen))
        seen.append(Looked(process_time(), which, found, [part.copy() for part in network]))
        return found

    Problem.loss = loss  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Problem.loss = whole  # type: ignore[method-assign]


def data_of(task: str, noise: float, options: argparse.Namespace) -> tuple[xr.Dataset, xr.Dataset, np.ndarray]:
    """A teacher, its activity, and which trials are for testing."""
    total = options.train + options.test
    network = load_teacher(options.folder / f"{task}.npz")
    activity = record_activity(network, total, observation_noise=noise, seed=options.seed)
    return network, activity, np.arange(options.train, total)


def beside(options: argparse.Namespace, score: Callable[[str], Score], label: str, peers: Sequence[str]) -> None:
    """Print a line: ours, and each peer's with the ratio of its seconds; one that is kept is not measured again."""
    kept = options.lines.get(label)
    if kept and not options.again:
        print(kept, flush=True)
        return
    ours = score("auto")
    line = f"| {label} | {_cells(ours)} |"
    for place, peer in enumerate(peers):
        if options.epochs and peer:
            theirs = _kept_score(kept, place) if kept else score(peer)
            ratios = [theirs.spent[k] / ours.spent[k] for k in range(2)]
            line += f" {_cells(theirs)} | {ratios[0]:.1f} | {ratios[1]:.1f} |"
            if ours.passed:
                passed = ours.passed(theirs.r2)
                line += f" {passed:.1f} | {theirs.spent.cpu_s / passed:.1f} |"
        else:
            line += " |" * 7
    print(line, flush=True)
    if not options.keep:
        return
    if kept:
        options.keep.write_text(options.keep.read_text().replace(kept, line))
    else:
        with options.keep.open("a") as file:
            file.write(line + "\n")


def kept_lines(keep: Path | None, of: str) -> dict[str, str]:
    """Lines that an earlier run kept, by their first cell; the file begins with what they are of.

    Raises: ValueError for a file of other options.
    """
    if keep is None:
        return {}
    if not keep.exists():
        keep.write_text(of + "\n")
    first, *lines = keep.read_text().splitlines()
    if first != of:
        raise ValueError(f"{keep} is of other options ({first}); name another file.")
    return {line.split("|")[1].strip(): line for line in lines}


def _kept_score(line: str, place: int) -> Score:
    """A peer's score from a line that was kept: five cells of each, and two ratios between peers."""
    cells = [cell.strip() for cell in line.split("|")[7 + 7 * place : 12 + 7 * place]]
    if len(cells) < 5 or not all(cells):
        raise SystemExit(
            f"the kept line of{line.split('|')[1]}has no figures of this peer; measure it without --again."
        )
    r2, ecc, cc, seconds, cpu_s = map(float, cells)
    return Score(r2, ecc, cc, Spent(seconds, cpu_s))


def _cells(score: Score) -> str:
    return f"{score.r2:.5f} | {score.ecc:.5f} | {score.cc:.3f} | {score.spent.seconds:.2f} | {score.spent.cpu_s:.2f}"


def _head(first: str, peers: Sequence[str] = LOOP, more: Sequence[str] = ()) -> None:
    measures = ("R²", "ECC", "CC", "s", "CPU s")
    columns = [first, *(f"ours {what}" for what in measures)]
    for peer in peers:
        columns += [*(f"{peer} {what}" for what in measures), "ratio", "of CPU"]
    columns += more
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))


def teachers(options: argparse.Namespace) -> None:
    """The four teachers at every observation noise."""
    peers = (*LOOP, "authors") if options.authors else LOOP
    _head("task, noise in sd", peers)
    for noise in options.noise:
        for task in options.tasks:
            teacher, activity, held = data_of(task, noise, options)
            truth = noise_free_rates(teacher, activity.isel(condition=held))

            def score(method: str, teacher=teacher, activity=activity, held=held, truth=truth) -> Score:
                how = {"rank": teacher.sizes["rank"], "test_conditions": held, "epochs": options.epochs or 1}
                tau_s = teacher.attrs["tau_s"]
                if method == "authors":
                    how |= {"alpha": teacher.attrs["dt_s"] / tau_s, "seed": options.seed}
                    found, spent = spent_on(partial(authors_fit, options.authors, activity, **how))
                    fit = teacher.assign({name: (teacher[name].dims, value) for name, value in found.items()})
                    predicted = run(fit, activity.isel(condition=held))["activity"].values
                else:
                    fit, spent = timed(activity, method=method, tau_s=tau_s, **how)
                    predicted = fit["activity_pred"].values[held]
                like = connectivity_scores(teacher, fit)
                return Score(rates_r2(truth, predicted), like["ecc"], like["cc"], spent)

            beside(options, score, f"{task} {noise:g}", peers)


def units(options: argparse.Namespace) -> None:
    """Few noisy units: a rank-R network of the seen ones, and of hidden ones beside the fewest."""
    _head("task, units, noise in sd")
    for task in options.tasks:
        for seen, noise, ours in FEW_UNITS:
            teacher, whole, held = data_of(task, noise, options)
            picked = np.sort(np.random.default_rng(options.seed).permutation(whole.sizes["neuron"])[:seen])
            activity = whole.isel(neuron=picked)
            truth = noise_free_rates(teacher, activity.isel(condition=held))[:, :, picked]

            def score(method: str, teacher=teacher, activity=activity, held=held, truth=truth, ours=ours) -> Score:
                rank, tau_s = teacher.sizes["rank"], teacher.attrs["tau_s"]
                how = {
                    "rank": rank,
                    "tau_s": tau_s,
                    "test_conditions": held,
                    "epochs": options.epochs or 1,
                    "method": method,
                }
                fit, spent = timed(activity, **(how if method == "published" else how | ours))
                predicted = fit["activity_pred"].values[held][:, :, : truth.shape[2]]
                return Score(rates_r2(truth, predicted), np.nan, np.nan, spent)

            beside(options, score, f"{task}, {seen}, {noise:g}", LOOP)


@lru_cache(1)
def trained(
    task: str, neurons: int, g: float, seed: int, train: int, test: int, of: int
) -> tuple[xr.Dataset, np.ndarray, np.ndarray, float]:
    """The activity of a network of full rank in trials of seed ``of``; those for testing, and their truth; tau, s."""
    network = train_network(task, n_neurons=neurons, g=g, seed=seed)
    activity, held = record_activity(network, train + test, seed=of), np.arange(train, train + test)
    return activity, held, noise_free_rates(network, activity.isel(condition=held)), network.attrs["tau_s"]


def networks(options: argparse.Namespace) -> None:
    """Networks of full rank, which no fit of low rank can match wholly."""
    _head("task, neurons, g, seed, rank", more=["reached, CPU s", "ratio"])
    tasks = [task for task in ("cdm", "dms") if task in options.tasks]
    for *which, rank in product(tasks, options.neurons, options.g, options.seeds, options.ranks):

        def score(method: str, which=which, rank=rank) -> Score:
            activity, held, truth, tau_s = trained(*which, options.train, options.test, options.seed)
            how = {"rank": rank or None, "tau_s": tau_s, "test_conditions": held}
            start = process_time()
            with watched() as seen:
                fit, spent = timed(activity, method=method, epochs=options.epochs or 1, **how)

            def passed(mark: float) -> float:
                best: dict[int, float] = {}
                for cpu_s, conditions, loss, network in seen:
                    if loss < best.get(conditions, np.inf):
                        best[conditions] = loss
                        parts = zip(("m", "n", "input_weights"), network, strict=True)
                        tried = fit.assign({name: (fit[name].dims, part) for name, part in parts})
                        x = run(tried, activity.isel(condition=held))["activity"].values
                        if rates_r2(truth, x) >= mark:
                            return cpu_s - start
                return np.nan

            r2 = rates_r2(truth, fit["activity_pred"].values[held])
            return Score(r2, np.nan, np.nan, spent, passed if rank and method == "auto" else None)

        task, neurons, g, seed = which
        beside(options, score, f"{task}, {neurons}, {g:g}, {seed}, {rank or 'all'}", LOOP if rank else [""])


def cost(options: argparse.Namespace) -> None:
    """One loss and gradient beside one tanh, and the exponents of its growth."""
    import torch

    from nwb_lint.model._torch import Problem

    def seconds_of(*shape: int) -> np.ndarray:
        """Seconds of a loss and gradient, of torch's tanh, and of numpy's: the best of some."""
        rng = np.random.default_rng(0)
        n_conditions, n_times, n_neurons = shape
        y = rng.standard_normal(shape, dtype=np.float32)
        q = rng.standard_normal((n_conditions, n_times, 4), dtype=np.float32)
        problem = Problem(q, y, None, alpha=0.2)
        network = [rng.standard_normal((n_neurons, k)) for k in (1, 1, 4)]
        array, out = problem.y, torch.empty_like(problem.y)
        runs = [
            lambda: problem.loss_and_gradient(*network),
            lambda: torch.tanh(array, out=out),
            lambda: np.tanh(array.numpy(), out=out.numpy()),
        ]
        return np.min([[_seconds(run) for run in runs] for _ in range(REPEATS)], axis=0)

    ours, bare, fast = seconds_of(*COST_SHAPE)
    print(f"loss and gradient of {COST_SHAPE}: {ours:.3f} s")
    print(f"tanh: torch's {bare:.3f} s, ratio {ours / bare:.2f}; numpy's {fast:.3f} s, ratio {ours / fast:.2f}")
    for name, sizes in _growth():
        spent = [seconds_of(*size)[0] for size in sizes]
        axis = ["condition", "time", "neuron"].index(name)
        steps = [size[axis] for size in sizes]
        exponent = np.polyfit(np.log(steps), np.log(spent), 1)[0]
        text = ", ".join(f"{step}: {s:.3f} s" for step, s in zip(steps, spent, strict=True))
        print(f"{name}: {text}; exponent {exponent:.2f}", flush=True)


def _growth() -> Iterator[tuple[str, list[tuple[int, int, int]]]]:
    yield "condition", [(k, 68, 512) for k in (100, 200, 400, 800, 1600)]
    yield "time", [(400, k, 512) for k in (34, 68, 136, 272)]
    yield "neuron", [(100, 68, k) for k in (256, 512, 1024, 2048, 4096, 8192)]


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


PARTS = {"teachers": teachers, "networks": networks, "units": units, "cost": cost}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none = all")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.5, 1.0, 2.0], help="sd, for teachers")
    parser.add_argument("--authors", type=Path, help="clone of the authors' code, for teachers")
    parser.add_argument("--train", type=int, default=800, help="training trials")
    parser.add_argument("--test", type=int, default=200, help="test trials")
    parser.add_argument("--epochs", type=int, default=50, help="of the published loop; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=1, help="of trials and fits")
    parser.add_argument("--neurons", nargs="+", type=int, default=[512, 1024], help="for networks")
    parser.add_argument("--g", nargs="+", type=float, default=[0.1, 1.0], help="for networks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="for networks: of the networks")
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 3, 4, 5, 0], help="for networks; 0 = rank=None")
    parser.add_argument("--keep", type=Path, help="file of finished lines, none of which is measured again")
    parser.add_argument("--again", action="store_true", help="ours anew, beside the peers' figures that are kept")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}; choose from {', '.join(PARTS)}")
    if not options.folder.is_dir():
        parser.error(f"no folder {options.folder}; name the one with dm.npz, wm.npz, cdm.npz and dms.npz")
    if options.authors and not (options.authors / "low_rank_rnns").is_dir():
        parser.error(f"no low_rank_rnns in {options.authors}; name a clone of the authors' repository")
    of = f"train {options.train}, test {options.test}, epochs {options.epochs}, seed {options.seed}"
    try:
        options.lines = kept_lines(options.keep, of)
    except ValueError as error:
        parser.error(str(error))
    for method in ("auto", "published"):
        nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, method=method, epochs=1)
    for part in options.parts or PARTS:
        print(f"\n## {part}")
        PARTS[part](options)


if __name__ == "__main__":
    main()

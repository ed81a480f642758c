"""The frame of every experiment: tasks → table → figure → section of a page.

A module of this folder defines one `Experiment`. `reproduce` runs it, and `write_page` writes the page of all results.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from os.path import relpath
from pathlib import Path
from time import perf_counter, process_time
from traceback import extract_tb
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nwb_lint.errors import ContractError, NWBLintError, WorkerError, one_line
from nwb_lint.parallel.engine import run_tasks
from nwb_lint.parallel.outputs import check_folder_of
from nwb_lint.parallel.tasks import Outcome, Work
from nwb_lint.parallel.warnings import warn

Tasks = list[tuple[Any, dict[str, Any]]]  # data and options of each call of the work
Result = dict[str, np.ndarray]  # rows of the table, by column
Claims = list[tuple[str, bool]]  # a claim, and whether it holds

PAPER = ("table1", "fig2", "kback", "fig3", "fig4", "fig5", "inactivation")
FIELD: tuple[str, ...] = (
    "ctd", "student_teacher", "latent_circuit", "alm000060", "monkeys", "lorenz63", "bursting", "eeg", "ecg",
)  # fmt: skip
NAMES = PAPER + FIELD
_SHARED = {name: "reconstruction" for name in ("eeg", "lorenz63", "bursting", "ecg")}  # modules of several experiments

_PAGE_TITLE = "# Published results, computed again"
_PARTS = {
    "The paper": (PAPER, "Valente, Pillow & Ostojic, NeurIPS 2022."),
    "Benchmarks of other authors": (FIELD, "Each section names the source of its published numbers."),
}


class Cell(NamedTuple):
    """A published number, and ours.

    ``higher_is_better`` is None for numbers that describe, such as a kurtosis. ``reason`` says why ours is the worse
    one, where it is, as far as that was found out.
    """

    what: str
    published: float
    ours: float
    higher_is_better: bool | None = True
    reason: str = ""

    @property
    def better(self) -> str:
        """Which one is better to three decimals: "ours", "published" or "equal"; "" if neither can be."""
        difference = round(self.ours - self.published, 3)
        if self.higher_is_better is None or not np.isfinite(difference):
            return ""
        return "equal" if difference == 0 else "ours" if (difference > 0) == self.higher_is_better else "published"


Comparison = list[Cell]


class Setting(NamedTuple):
    """What a run needs to know.

    ``quick`` runs are small. ``data`` is a folder of trained networks or recordings. ``fits`` is the folder for the
    fits. ``seeds`` is the number of networks of each kind in a full run.
    """

    quick: bool
    data: Path | None
    fits: Path
    seeds: int


class Experiment(NamedTuple):
    """What an experiment computes, and what it shows.

    ``work(data, **options)`` gives one or several rows of the table for every task of ``tasks(setting)``.
    ``figure_table`` makes the table of the figure (columns panel, line, x, y; ``labels`` of x and y). ``claims`` are
    statements that must hold. ``notes`` are known faults and differences. ``compare`` has the published numbers and
    ours. ``draw`` makes the figure from the table and the folder of the fits, if it is no plot of lines. ``report``
    makes the Markdown of the page, if it is not the whole table.
    """

    title: str
    labels: tuple[str, str]
    work: Work
    tasks: Callable[[Setting], Tasks]
    figure_table: Callable[[pd.DataFrame], pd.DataFrame]
    claims: Callable[[pd.DataFrame], Claims]
    notes: list[str]
    compare: Callable[[pd.DataFrame], Comparison] = lambda table: []
    draw: Callable[[pd.DataFrame, Path], Any] | None = None
    report: Callable[[pd.DataFrame], str] | None = None


def load_experiment(name: str) -> Experiment:
    """The experiment of this name.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    Experiment
        The experiment.

    Raises
    ------
    ContractError
        If there is no such experiment.
    """
    if name not in NAMES:
        raise ContractError(f"There is no experiment {name!r}. Choose from {', '.join(NAMES)}.")
    part = "paper" if name in PAPER else "field"
    module = import_module(f"nwb_lint.experiments.{part}.{_SHARED.get(name, name)}")
    found: Experiment = module.EXPERIMENTS[name] if name in _SHARED else module.EXPERIMENT
    return found


def reproduce(
    name: str,
    out: str | Path,
    *,
    quick: bool = False,
    data: str | Path | None = None,
    seeds: int = 2,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    experiment: Experiment | None = None,
) -> pd.DataFrame:
    """Run an experiment, and write its table, facts, figure and fits to a folder.

    The files are ``name.csv``, ``name.json``, ``name.png`` and ``name.pdf``; the fits are in the folder ``fits``. A
    part that fails gives a warning. The others are computed, and its row of the table, at the end, is NaN.
    ``table.attrs["failed"]`` has the reasons. The same run with the same ``cache_dir`` computes the failed parts again.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    out : str or pathlib.Path
        Folder for the results.
    quick : bool, default=False
        Run with small networks, few trials and one seed.
    data : str or pathlib.Path or None, default=None
        Folder with data. table1 also fits the networks of the paper that are there (dm.npz, wm.npz, cdm.npz, dms.npz).
        fig5 needs the folder of the recordings (NWB files), alm000060 that of a session (counts_50ms.npz), monkeys
        that of the paper's fits to the monkeys, a full run of student_teacher that of the authors' networks, and eeg
        and ecg those of their recordings. The others need none.
    seeds : int, default=2
        Number of networks of each kind that a full run of fig2, kback, fig3 or fig4 trains, or of fits to each system
        in one of student_teacher, lorenz63, bursting, eeg or ecg.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the parts, as in `nwb_lint.parallel.engine.run_tasks`. None is this process.
    cache_dir : str or pathlib.Path or None, default=None
        Folder for the results of finished parts. It gets a folder for each experiment.
    progress : bool, default=False
        Show a progress bar.
    experiment : Experiment or None, default=None
        An experiment of your own, to run under this name. Its work needs to be a function at the top level of a module.

    Returns
    -------
    pandas.DataFrame
        The table.

    Raises
    ------
    ContractError
        If there is no such experiment or folder, or the folder has no data of the experiment.
    WorkerError
        If workers are lost, or every part failed.
    """
    made = load_experiment(name) if experiment is None else experiment
    folder = Path(out)
    if data is not None and not Path(data).is_dir():
        raise ContractError(
            f"There is no folder {data}. data needs the folder of the data. Name it, or leave data out."
        )
    setting = Setting(quick, None if data is None else Path(data).resolve(), (folder / "fits").resolve(), seeds)
    tasks = made.tasks(setting)
    setting.fits.mkdir(parents=True, exist_ok=True)
    kept = None if cache_dir is None else Path(cache_dir) / name
    start, start_cpu, resumed = perf_counter(), process_time(), kept is not None and any(kept.glob("*.npz"))
    how = {"executor": executor, "cache_dir": kept, "progress": progress, "label": name}
    work = f"{made.work.__module__}:{made.work.__qualname__}"
    calls = [(shared, options | {"work": work}) for shared, options in tasks]
    parts, found = [options for _, options in tasks], dict[int, Outcome]()
    for k, found[k] in run_tasks(_measure, calls, errors="skip", skippable=NWBLintError, **how):
        if found[k].error is not None:  # at once, since the other parts may take an hour
            warn(f"A part of {name} failed ({_name_of(parts[k], parts)}): {found[k].error}")
    table = _table(name, parts, [found[k] for k in sorted(found)])
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    failed = table.attrs["failed"]
    facts = {"quick": quick, "seconds": round(perf_counter() - start, 1), "machine": platform.machine()}
    # notes are those of this run; the page may be written much later
    facts |= {"resumed": resumed, "failed": failed, "notes": made.notes, "date": datetime.now(UTC).date().isoformat()}
    if executor is None:  # work elsewhere takes no time of this process
        facts["cpu_seconds"] = round(process_time() - start_cpu, 1)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    from nwb_lint.plot.experiments import panels

    rows = computed(table, failed)
    figure = made.draw(rows, setting.fits) if made.draw else panels(made.figure_table(rows), *made.labels)
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}", dpi=110)
    return table


def _measure(data: Any, *, work: str, **options: Any) -> Result:
    """One part of an experiment. Any exception becomes an error of this package that names its line."""
    module, _, name = work.partition(":")
    try:
        result = getattr(import_module(module), name)(data, **options)
        return {column: np.asarray(value) for column, value in result.items()}
    except Exception as error:
        at = extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {one_line(error)} ({Path(at.filename).name}, line {at.lineno})"
        raise NWBLintError(what) from error


def _table(name: str, tasks: list[dict[str, Any]], outcomes: list[Outcome]) -> pd.DataFrame:
    """The rows of all parts. A part that failed has a row of NaN at the end, and its reason in ``attrs["failed"]``."""
    rows: list[pd.DataFrame] = []
    lost: list[dict[str, Any]] = []
    failed: list[str] = []
    for options, outcome in zip(tasks, outcomes, strict=True):
        if outcome.error is None:
            rows.append(pd.DataFrame({k: v.reshape(-1) for k, v in outcome.result.items()}))
            continue
        failed.append(f"{_name_of(options, tasks)}: {outcome.error}")
        lost.append(options)
    if not rows:
        raise WorkerError(f"Every part of {name} failed. The first: {failed[0]}")
    table = pd.concat(rows, ignore_index=True)
    if lost:
        table = pd.concat([table, pd.DataFrame(lost).reindex(columns=table.columns)], ignore_index=True)
    table.attrs["failed"] = failed
    return table


def _name_of(options: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    """The options by which a part differs from the others."""
    differ = [k for k in options if any(other.get(k) != options[k] for other in tasks)]
    return ", ".join(f"{k} {options[k]}" for k in differ) or "the only one"


def computed(table: pd.DataFrame, failed: list[str]) -> pd.DataFrame:
    """The table without the rows of failed parts, which are its last."""
    return table.iloc[: len(table) - len(failed)]


def check_claims(made: Experiment, table: pd.DataFrame, failed: list[str]) -> Claims:
    """The claims of an experiment on the computed parts, and the claim that no part failed if one did."""
    lost = [(f"every part was computed (failed: {'; '.join(failed)})", False)] if failed else []
    return made.claims(computed(table, failed)) + lost


def write_page(results: str | Path, page: str | Path) -> Path:
    """Write the page of all experiments with results in a folder: published and our numbers, claims, notes.

    Parameters
    ----------
    results : str or pathlib.Path
        Folder that `reproduce` wrote to.
    page : str or pathlib.Path
        Markdown file to write.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    ContractError
        If the folder has no results.
    """
    folder, target = Path(results), check_page(page)
    names = [name for name in NAMES if (folder / f"{name}.csv").exists() and (folder / f"{name}.json").exists()]
    if not names:
        raise ContractError(f"{folder} has no results. Run nwb-lint reproduce NAME --out {folder} first.")
    parts = [
        f"{_PAGE_TITLE}\n\nWritten by `nwb_lint.experiments.frame.write_page` from the "
        "tables beside the figures. No number of ours in a table, a comparison or a claim is typed by hand."
    ]
    for part, (members, source) in _PARTS.items():
        here = [name for name in names if name in members]
        if here:
            parts += [f"## {part}\n\n{source}", *(_section(name, folder, target.parent) for name in here)]
    parts.append(_times({name: _facts(name, folder) for name in names}))
    missing = [name for name in NAMES if name not in names]
    if missing:
        parts.append(f"Without stored results: {', '.join(missing)}.")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target


def _times(facts: dict[str, dict[str, Any]]) -> str:
    """The times of all runs, and the sum of the full ones."""
    columns = {"seconds": "wall, s", "cpu_seconds": "CPU, s", "date": "date"}
    rows = [
        {"experiment": name, "run": "quick" if one["quick"] else "full"}
        | {title: str(one.get(key, "")) for key, title in columns.items()}
        for name, one in facts.items()
    ]
    full = [one for one in facts.values() if not one["quick"]]
    quick = [name for name, one in facts.items() if one["quick"]]
    total = sum(one["seconds"] for one in full) / 60
    sentence = (
        f"The full runs together took {total:.1f} minutes of wall time, one after the other, most beside other work. A "
        "run that used results of an earlier one counts only its own time. Runs are not repeated with every change of "
        "the package; the dates say when they were."
    )
    if quick:
        sentence += f" Quick runs alone are stored of: {', '.join(quick)}."
    return f"## Times\n\n{sentence}\n\n{markdown(pd.DataFrame(rows))}"


def check_page(page: str | Path) -> Path:
    """The path of a page; ContractError where there is a file that is no such page, or no folder for it."""
    target = Path(page)
    if target.exists() and not (target.is_file() and target.read_bytes().startswith(_PAGE_TITLE.encode())):
        raise ContractError(f"{target} exists, and nwb_lint did not write it. Choose another path, or delete it.")
    check_folder_of(target)
    return target


def _section(name: str, folder: Path, base: Path) -> str:
    made, table = load_experiment(name), pd.read_csv(folder / f"{name}.csv")
    facts = _facts(name, folder)
    kind = "quick run: small networks, not comparable in size" if facts["quick"] else "full run"
    if "seed" in table and not facts["quick"]:
        kind += f", seeds: {table['seed'].nunique()}"
    at = Path(relpath(folder, base)).as_posix()
    earlier = ", with results of an earlier run" if facts.get("resumed") else ""
    lines = [f"### {made.title}\n", f"{kind}, {facts['seconds']:g} s{earlier}. ![{name}]({at}/{name}.png)\n"]
    failed = facts.get("failed", [])
    rows = computed(table, failed)
    compared = made.compare(rows)
    if compared:
        lines += ["| | published | ours | difference | better | why not ours |", "|---|---|---|---|---|---|"]
        lines += [_line(cell) for cell in compared] + [""]
    claims = check_claims(made, table, failed)
    lines += [f"- {'Holds' if good else '**Does not hold**'}: {claim}" for claim, good in claims]
    lines += ["", "Known faults and differences:", ""] + [f"- {note}" for note in facts.get("notes", made.notes)]
    lines += ["", made.report(rows) if made.report else markdown(table)]
    return "\n".join(lines)


def _line(cell: Cell) -> str:
    reason = cell.reason if cell.better == "published" else ""
    numbers = f"{cell.published:.3f} | {cell.ours:.3f} | {cell.ours - cell.published:+.3f}"
    return f"| {cell.what} | {numbers} | {cell.better} | {reason} |"


def _facts(name: str, folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers with three decimals."""

    def text(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join(head + ["| " + " | ".join(map(text, row)) + " |" for row in table.itertuples(index=False)])

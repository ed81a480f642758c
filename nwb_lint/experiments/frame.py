"""What an experiment is: tasks → table → figure → rows of a page. An experiment module gives one `Experiment`."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib import import_module
from os.path import relpath
from pathlib import Path
from time import perf_counter
from traceback import extract_tb
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nwb_lint.errors import ContractError, NWBLintError, WorkerError, one_line
from nwb_lint.experiments.published import FAULTS
from nwb_lint.parallel.engine import run_tasks
from nwb_lint.parallel.tasks import Outcome, Work
from nwb_lint.parallel.warnings import warn

Tasks = list[tuple[Any, dict[str, Any]]]  # data and options of each call of the work
Result = dict[str, np.ndarray]  # rows of the table, by column

NAMES = ("table1", "fig2", "kback", "fig3", "fig4", "fig5", "inactivation")


class Setting(NamedTuple):
    """What a run was asked for: whether it is the quick one, a folder of trained networks or recordings, one for the
    fits, and how many seeds a full run has where it trains several networks."""

    quick: bool
    data: Path | None
    fits: Path
    seeds: int


class Experiment(NamedTuple):
    """tasks(setting) → tasks of `work`, each result a row of the table, or several of equal length; ``long``: the table
    as the figure has it (columns panel, line, x, y); ``compare``: rows (what, published, ours); ``hold``: claims that
    must hold, and whether they do; ``draw``: the figure, where it is no plot of lines, from the table and the folder of
    the fits; ``told``: Markdown from the table, in place of the whole of it."""

    title: str
    labels: tuple[str, str]
    work: Work
    tasks: Callable[[Setting], Tasks]
    long: Callable[[pd.DataFrame], pd.DataFrame]
    compare: Callable[[pd.DataFrame], list[tuple[str, float, float]]]
    hold: Callable[[pd.DataFrame], list[tuple[str, bool]]]
    draw: Callable[[pd.DataFrame, Path], Any] | None = None
    told: Callable[[pd.DataFrame], str] | None = None


def experiment(name: str) -> Experiment:
    """The experiment of this name. Raises: ContractError for an unknown one."""
    if name not in NAMES:
        raise ContractError(f"no experiment {name!r}; there are {', '.join(NAMES)}.")
    found = import_module(f"nwb_lint.experiments.{name}").EXPERIMENT
    assert isinstance(found, Experiment)
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
) -> pd.DataFrame:
    """Run an experiment, and write ``name.csv``, ``name.json``, ``name.png`` and ``name.pdf`` to ``out``, and its fits
    to ``out/fits``.

    Args:
        quick: small networks, few trials, one seed.
        data: folder with the paper's trained networks (dm.npz, wm.npz, cdm.npz, dms.npz), where there is one; for fig5,
            of the recordings (*.nwb), ../shared/data/mante2013 where none is named.
        seeds: networks of each kind that a full run of fig2, kback, fig3 or fig4 trains.
        executor, cache_dir, progress: as in `nwb_lint.parallel`; ``cache_dir`` has a folder for each experiment.

    A cell that fails is told in a warning and does not end the run: the others are computed, the table has a row with
    NaN for it (the last ones; ``table.attrs["failed"]`` says which and why), and the same run with this ``cache_dir``
    tries it again.

    Raises: ContractError for an unknown experiment or a folder that is not there; WorkerError when workers are lost, or
        when every cell failed.
    """
    made = experiment(name)
    folder = Path(out)
    if data is not None and not Path(data).is_dir():
        raise ContractError(f"no folder {data}; name the one that holds the data, or leave it out.")
    setting = Setting(quick, None if data is None else Path(data).resolve(), (folder / "fits").resolve(), seeds)
    setting.fits.mkdir(parents=True, exist_ok=True)
    kept = None if cache_dir is None else Path(cache_dir) / name
    start, resumed = perf_counter(), kept is not None and any(kept.glob("*.npz"))
    tasks = [(data, options | {"name": name}) for data, options in made.tasks(setting)]
    how = {"executor": executor, "cache_dir": kept, "progress": progress, "label": name}
    found = dict(run_tasks(_run, tasks, errors="skip", skippable=NWBLintError, **how))
    table = _table([options for _, options in tasks], [found[k] for k in sorted(found)])
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    failed = table.attrs["failed"]
    facts = {"quick": quick, "seconds": round(perf_counter() - start, 1), "machine": platform.machine()}
    facts |= {"resumed": resumed, "failed": failed}
    facts["notes"] = FAULTS[name]  # of how this run was made: a page of stored results may be written much later
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    from nwb_lint.plot.experiments import panels

    there = computed(table, failed)
    figure = made.draw(there, setting.fits) if made.draw else panels(made.long(there), *made.labels)
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}", dpi=110)
    return table


def _run(data: Any, *, name: str, **options: Any) -> Result:
    """One task of an experiment. Whatever goes wrong in it is an error of this package, which says where."""
    try:
        return {name: np.asarray(value) for name, value in experiment(name).work(data, **options).items()}
    except Exception as error:
        at = extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {one_line(error)} ({Path(at.filename).name}, line {at.lineno})"
        raise NWBLintError(what) from error


def _table(asked: list[dict[str, Any]], outcomes: list[Outcome]) -> pd.DataFrame:
    """The rows of all tasks; at the end one with NaN for each that failed, and why in ``attrs``."""
    rows: list[pd.DataFrame] = []
    lost: list[dict[str, Any]] = []
    failed: list[str] = []
    for options, outcome in zip(asked, outcomes, strict=True):
        if outcome.error is None:
            rows.append(pd.DataFrame({k: v.reshape(-1) for k, v in outcome.result.items()}))
            continue
        differ = [k for k in options if any(other.get(k) != options[k] for other in asked)]
        which = ", ".join(f"{k} {options[k]}" for k in differ) or "the only one"
        failed.append(f"{which}: {outcome.error}")
        lost.append(options)
        warn(f"a part of {options['name']} failed ({which}): {outcome.error}")
    if not rows:
        raise WorkerError(f"every part of {asked[0]['name']} failed; the first: {failed[0]}")
    table = pd.concat(rows, ignore_index=True)
    if lost:
        table = pd.concat([table, pd.DataFrame(lost).reindex(columns=table.columns)], ignore_index=True)
    table.attrs["failed"] = failed
    return table


def computed(table: pd.DataFrame, failed: list[str]) -> pd.DataFrame:
    """The table without the rows of parts that failed, which are its last."""
    return table.iloc[: len(table) - len(failed)]


def claims(made: Experiment, table: pd.DataFrame, failed: list[str]) -> list[tuple[str, bool]]:
    """What must hold, of the parts that were computed; and that all were, where some were not."""
    lost = [(f"every part was computed (failed: {'; '.join(failed)})", False)] if failed else []
    return made.hold(computed(table, failed)) + lost


def write_page(results: str | Path, page: str | Path) -> Path:
    """The page of every experiment with stored results in a folder: published, ours, difference, claims, known faults.

    Raises: ContractError where the folder holds no results.
    """
    folder, target = Path(results), Path(page)
    there = [name for name in NAMES if (folder / f"{name}.csv").exists() and (folder / f"{name}.json").exists()]
    if not there:
        raise ContractError(f"{folder} holds no results; run nwb-lint reproduce NAME --out {folder} first.")
    parts = [
        "# The paper's results, computed again\n\nWritten by `nwb_lint.experiments.frame.write_page` from the tables "
        "beside the figures; no number is typed by hand.\nValente, Pillow & Ostojic, NeurIPS 2022."
    ]
    parts += [_section(name, folder, target.parent) for name in there]
    full = [facts["seconds"] for facts in (_facts(name, folder) for name in there) if not facts["quick"]]
    if full:
        parts.append(
            f"Wall time of the full runs together: {sum(full) / 60:.1f} minutes (a run that went on from "
            "finished tasks counts from there)."
        )
    missing = [name for name in NAMES if name not in there]
    if missing:
        parts.append(f"Without stored results: {', '.join(missing)}.")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target


def _section(name: str, folder: Path, base: Path) -> str:
    made, table = experiment(name), pd.read_csv(folder / f"{name}.csv")
    facts = _facts(name, folder)
    kind = "quick run: small networks, not comparable in size" if facts["quick"] else "full run"
    if "seed" in table and not facts["quick"]:
        kind += f", seeds: {table['seed'].nunique()}"
    at = Path(relpath(folder, base)).as_posix()
    earlier = ", with results of an earlier run at hand" if facts.get("resumed") else ""
    lines = [f"## {made.title}\n", f"{kind}, {facts['seconds']:g} s{earlier}. ![{name}]({at}/{name}.png)\n"]
    failed = facts.get("failed", [])
    there = computed(table, failed)
    rows = made.compare(there)
    if rows:
        lines += ["| | published | ours | difference |", "|---|---|---|---|"]
        lines += [f"| {what} | {old:.3f} | {new:.3f} | {new - old:+.3f} |" for what, old, new in rows]
        lines.append("")
    lines += [f"- {'Holds' if good else '**Does not hold**'}: {claim}" for claim, good in claims(made, table, failed)]
    lines += ["", "Known faults and differences:", ""] + [f"- {fault}" for fault in facts.get("notes", FAULTS[name])]
    lines += ["", made.told(there) if made.told else markdown(table)]
    return "\n".join(lines)


def _facts(name: str, folder: Path) -> dict[str, Any]:
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(facts, dict)
    return facts


def markdown(table: pd.DataFrame) -> str:
    """A table of a page, numbers with three decimals."""

    def text(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    head = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join(head + ["| " + " | ".join(map(text, row)) + " |" for row in table.itertuples(index=False)])

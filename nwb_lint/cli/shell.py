"""What every command shares: failures as one line, and how scores, tables and files are printed."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from nwb_lint.errors import printable

_NOTES = "nwb_lint.notes"


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text without control characters: all that commands print goes through here."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    shown = printable(str(text)).encode(encoding, "backslashreplace").decode(encoding)
    click.echo(shown, err=err, nl=nl)


def in_terminal() -> bool:
    """Whether messages go to a terminal, so that progress bars are shown."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (OSError, ValueError):  # of a terminal that is gone, or a stream that is closed
        return False


def read_fit_of(path: str, name: str | None, *, save: str | None = None) -> Any:
    """A fit, and a line that says whether it is what was written. A name of a result that is taken is refused now."""
    from nwb_lint.errors import ContractError
    from nwb_lint.nwb.extension.read import find_entries, how_verified, read_fit_entry
    from nwb_lint.nwb.storage.source import reading

    entry, fit = read_fit_entry(path, name)
    if save is not None:
        with reading(path) as file:
            if any(one.name == save for one in find_entries(file)):
                raise ContractError(f"{path} has {save} already. Each needs a name of its own. Pass another name=.")
    note_at_end(f"{entry.name} of {path}: {how_verified(fit)}")
    return fit


def note_at_end(text: str) -> None:
    """Print a line on stderr when the command has succeeded: a failure is one line alone."""
    click.get_current_context().meta.setdefault(_NOTES, []).append(text)


def _can_be_saved(_context: click.Context, _option: click.Parameter, picture: Path | None) -> Path | None:
    """Refuse the path of a picture before the work."""
    if picture is None:
        return None
    from nwb_lint.errors import ContractError
    from nwb_lint.plot.style import check_picture

    try:
        check_picture(picture)
    except ContractError as error:
        raise click.BadParameter(str(error)) from None
    return picture


of_fit = click.option("--name", help="Name of the fit, where the file holds several.")
with_picture = click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path),
    callback=_can_be_saved,
    help="Save a picture: PNG, PDF or SVG.",
)


def check_output(out: Path, source: str | None = None) -> None:
    """Refuse to write over the file that is read, whatever its name, and into a folder that does not exist."""
    from nwb_lint.errors import ContractError, MissingFileError

    if source is not None and out.exists() and Path(source).exists() and out.samefile(source):
        raise ContractError(f"{out} is the file that is read. Choose another path.")
    if not out.parent.is_dir():
        raise MissingFileError(f"{out.parent}: no such folder. {out.name} cannot be written there. Make it first.")
    if not os.access(out.parent, os.W_OK):
        raise ContractError(f"{out.parent} may not be written. Choose another path for {out.name}.")


def _good_name(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Refuse the name of a result before the work."""
    if name is not None:
        from nwb_lint.errors import ContractError
        from nwb_lint.nwb.extension.write import check_name

        try:
            check_name(name)
        except ContractError as error:
            raise click.BadParameter(str(error)) from None
    return name


saved_as = click.option(
    "--save",
    metavar="NAME",
    callback=_good_name,
    help="Keep the result in the file, beside the fit, under this name.",
)


def new_file(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse the path of a file that exists, or whose folder does not, before the work."""
    if path is not None and path.exists():
        raise click.BadParameter(f"{path} exists already. Choose another path, or delete it.")
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"{path.parent}: no such folder. Make the folder first.")
    return path


def run_on(command):
    """The flags that say where work is computed, and where finished work is kept."""
    for option in (
        click.option(
            "--cache-dir", type=click.Path(path_type=Path), help="Folder of finished fits: a stopped run continues."
        ),
        click.option("--dask", metavar="ADDRESS", help="Scheduler of a running Dask cluster that computes."),
        click.option("--workers", type=click.IntRange(1), default=1, help="Processes of this machine that compute."),
    ):
        command = option(command)
    return command


# Arguments of Python as messages name them, and the flags that set them.
_FLAGS = (
    ("overwrite=True", "--force"),
    ("fit_name=", "--name"),
    ("another name=", "another --save"),
    ("name=", "--name"),
    (r"subject=\{'(\w+)': …\}", r"--subject \1=…"),
    ("subject=", "--subject"),
)


def with_flags(message: object) -> str:
    """A message on one line that names flags in place of arguments of Python."""
    text = " ".join(str(message).split())
    for argument, flag in _FLAGS:
        text = re.sub(rf"\b{argument}(?![\w\"'\[{{])", flag, text)
    return text


@contextmanager
def plainly():
    """Failures of the work as one line and exit status 1, warnings as one line each."""
    from nwb_lint.errors import ContractError, NWBError, WorkerError

    def tell(message, category, filename, lineno, file=None, line=None) -> None:
        echo(f"warning: {with_flags(message)}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = tell
        try:
            yield
        except (ContractError, NWBError, WorkerError, OSError) as error:
            echo(f"error: {with_flags(error)}", err=True)
            sys.exit(1)
    for text in click.get_current_context().meta.get(_NOTES, ()):
        echo(text, err=True)


def parse_pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dict."""
    for text in given:
        if "=" not in text:
            raise click.UsageError(f"{option} is {text!r}; it needs KEY=VALUE, e.g. age=P90D.")
    return dict(text.split("=", 1) for text in given)


def print_scores(fit, tables: dict[str, Any]) -> None:
    """Scores per rank and of the fit, and the tables beside it, each with its split and its ceiling."""
    echo(
        f"{fit.sizes['neuron'] - fit.attrs['hidden']} units, {fit.sizes['condition']} "
        f"{'trials' if 'noise_cov' in fit else 'conditions'}, {int(fit['held_out'].sum())} of them held out"
    )
    if "rank_selection" in tables:
        table = tables["rank_selection"]
        whose = " of held-out neurons" if table.attrs["cv_over"] == "neuron" else ""
        names = [f"{r}{' <- chosen' if r == table.attrs['rank'] else ''}" for r in table["rank_tried"].values]
        title = "co-smoothing by rank, bits per spike" if "rank_bits" in table else f"R²{whose} by rank"
        print_table(title, names, table, "rank")
        print_ranks(table)
    if "baselines" in tables:
        table = tables["baselines"]
        print_table(f"R² of rank {table.attrs['rank']} and of baselines", table["baseline"].values, table, "baseline")
    if "ensemble" in tables:
        print_ensemble(tables["ensemble"])
    if "bootstrap" in tables:
        print_intervals(tables["bootstrap"])
    if "noise_cov" in fit:
        print_trial_scores(fit)
        return
    echo(f"\nrank {fit.sizes.get('rank', 'none')} fit         R²    ceiling  median over neurons")
    columns = (fit[name].values for name in ("split", "r2", "r2_ceiling", "r2_median"))
    for split, value, top, median in zip(*columns, strict=True):
        echo(f"  {split:<10s} {value:8.3f} {top:10.3f} {median:20.3f}")
    print_inputs(fit)
    if "n_norm_ratio" in fit.attrs:
        echo(f"  norm of n / norm of its effective part: {fit.attrs['n_norm_ratio']:.2f}")
    if "caution" in fit.attrs:
        echo(f"caution: {fit.attrs['caution']}")


def print_trial_scores(fit) -> None:
    """Bits per spike by split, how much of the latents the run without noise explains, and the evidence."""
    echo(f"\nrank {fit.sizes['rank']} fit of single trials   bits per spike   R² of the run without noise")
    bits = fit["bits_per_spike"].values if "bits_per_spike" in fit else [float("nan")] * fit.sizes["split"]
    for split, value, r2 in zip(fit["split"].values, bits, fit["r2"].values, strict=True):
        echo(f"  {split:<24s} {value:14.3f} {r2:30.3f}")
    evidence = fit["evidence"].values
    best = int(evidence.argmax())
    echo(
        f"  log evidence {evidence[best]:.1f} nats in iteration {best + 1} of {len(evidence)} "
        f"(from {evidence[0]:.1f} in the first)"
    )


def print_inputs(fit) -> None:
    """How much R² falls without each input."""
    if "input_r2_gain" not in fit or not fit["input_r2_gain"].notnull().any():
        return
    echo("\ninput                       R² lost without it ± s.e. (refitted, inner held-out conditions)")
    rows = (fit[name].values for name in ("input", "input_r2_gain", "input_r2_gain_sem"))
    for name, gain, error in zip(*rows, strict=True):
        echo(f"  {name:24s} {gain:8.3f} ± {error:.3f}")


def print_reading(activity, inputs: Sequence[Any]) -> None:
    """Trials and units of all, inputs that nobody named, and of several files those that gave less than they have."""
    from nwb_lint.nwb.recording.dataset import format_assets, format_reading

    echo(format_reading(activity))
    if inputs:
        start = f"from time 0 ({activity.attrs['align']}) on" if inputs[0].window_s else "at all times"
        echo(f"inputs: {', '.join(one.name for one in inputs)}, {start} (others: --input, or [[inputs]] of a recipe)")
    echo()
    if len(activity.attrs["assets"]) > 1:
        echo(format_assets(activity, all_files=False) + "\n")


def print_table(title: str, names: Sequence[str], table, of: str) -> None:
    """One row per model, its score in training and held out ± standard error over folds; the ceiling of R² below."""
    score, whose = ("bits", "trials") if f"{of}_bits" in table else ("r2", "conditions")
    echo(f"\n{title} (cross-validated, among the training {whose})")
    echo(f"  {'':22s} {'in training':>12s} {'held out ± s.e.':>18s}")
    values, errors = table[f"{of}_{score}"].values, table[f"{of}_{score}_sem"].values[:, 1]
    for name, (trained, held), error in zip(names, values, errors, strict=True):
        echo(f"  {name:22s} {trained:12.3f} {held:10.3f} ± {error:.3f}")
    if f"{of}_r2_ceiling" in table:
        trained, held = table[f"{of}_r2_ceiling"].values
        echo(f"  {'ceiling':22s} {trained:12.3f} {held:10.3f}")


def print_ranks(table) -> None:
    """How each rank was judged: its difference to the best one, paired over folds."""
    from nwb_lint.model.scores import as_good_as_best

    echo("  behind the best rank (mean ± s.e. of paired differences between folds):")
    names = ("rank_tried", "rank_deficit", "rank_deficit_sem")
    tried, deficits, errors = (table[name].values for name in names)
    rows = zip(tried, deficits, errors, as_good_as_best(deficits, errors), strict=True)
    for rank, deficit, error, good in rows:
        verdict = "best" if deficit == 0 else "as good" if good else "worse"
        echo(f"  {rank:<22d} {deficit:12.4f} ± {error:.4f}  {verdict}")
    echo(f"  chosen: rank {table.attrs['rank']}, the smallest that is at most one standard error behind")


def print_intervals(table) -> None:
    """The quantities of a bootstrap with their intervals, or why a quantity has none."""
    if "low" not in table:
        return
    echo(f"\nbootstrap: {table.attrs['draws']} resamples of trials, {table.attrs['simulations']} simulations")
    echo(f"  {'':30s} {'fit':>9s} {'corrected':>10s}   {100 * table.attrs['level']:.0f} %")
    columns = (table[name].values for name in ("quantity", "unit", "estimate", "corrected", "low", "high", "reason"))
    for name, unit, own, corrected, low, high, reason in zip(*columns, strict=True):
        measured = "" if unit == "1" else f" {unit}"
        rest = f"none: {reason}" if reason else f"{corrected:10.3f}   {low:.3f} to {high:.3f}{measured}"
        echo(f"  {name:30s} {own:9.3f} {rest}")


def print_ensemble(table) -> None:
    """How far the members' effective connectivities agree, and how well each predicts."""
    good = table["as_good"].values
    r2, top = table["r2"].values[good, 1], table["r2_ceiling"].values[good, 1]
    echo(f"\nensemble over {table.attrs['vary']}: {int(good.sum())} of {len(good)} members equally good")
    echo(f"  R² held out            {r2.mean():.3f}, from {r2.min():.3f} to {r2.max():.3f}; ceiling {top.mean():.3f}")
    agreement = f"Pearson {table.attrs['pearson']:.3f}, cosine {table.attrs['cosine']:.3f}"
    echo(f"  effective connectivity {agreement} between members (mean over pairs)")
    spread = sorted(table["spread_post"].values)
    echo(f"  spread per neuron      {spread[len(spread) // 2]:.2f} of its mean (median), {spread[-1]:.2f} at most")


def print_seconds(seconds: dict[str, float]) -> None:
    echo("\nseconds")
    for stage, value in seconds.items():
        echo(f"  {stage:<14s} {value:6.2f}")


def print_files(files: list[Path]) -> None:
    echo("\nwritten: " + ", ".join(str(path) for path in files))


def keep_result(result, path: str, fit: str | None, save: str | None) -> None:
    """Write a result beside its fit, where a name was given."""
    if save is not None:
        from nwb_lint.nwb.extension.write import write_result

        write_result(result, path, fit_name=fit, name=save)
        echo(f"written: {save} in {path}", err=True)


def save_picture(ax, picture: Path) -> None:
    """Save the figure of some axes; a disk that refuses is a warning, since the result is printed."""
    from nwb_lint.plot.style import save_figure

    try:
        save_figure(ax.figure, picture, 150)
    except OSError as error:
        warnings.warn(f"There is no picture: {picture} cannot be written ({error.strerror}).", stacklevel=1)
        return
    echo(f"written: {picture}", err=True)

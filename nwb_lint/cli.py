"""The command line: parse, call a public name, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="nwb_lint")
def app() -> None:
    """From an NWB recording to a fitted low-rank recurrent network, and back into NWB."""


@contextmanager
def _plainly():
    """Failures of the work as one line and exit status 1, warnings as one line each."""
    from nwb_lint.contract import ContractError
    from nwb_lint.model.sweep import SweepError
    from nwb_lint.nwb.source import NWBError

    def tell(message, category, filename, lineno, file=None, line=None) -> None:
        click.echo(f"warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = tell
        try:
            yield
        except (ContractError, NWBError, SweepError, OSError) as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            sys.exit(1)


@app.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("nwb_lint_demo"))
@click.option("--seed", default=0, help="Seed of the simulated session and of the fit.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure.")
def demo(folder: Path, seed: int, plot: bool) -> None:
    """Simulate a session with a known network inside, fit it from its NWB file, write it back, and compare."""
    with _plainly():
        from nwb_lint.demo import run_demo

        found = run_demo(folder, seed=seed, figure=plot, progress=sys.stderr.isatty())
        _print_scores(found.fit, found.tables)
        click.echo("\ntrue against recovered effective connectivity")
        click.echo(f"  Pearson  {found.pearson:.3f}\n  cosine   {found.cosine:.3f}")
        _print_seconds(found.seconds)
        _print_files(found.files)


@app.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
@click.option("--spikes/--no-spikes", default=None, help="Read the spikes.  [default: of local files only]")
@click.option("--plot", "picture", type=click.Path(path_type=Path, dir_okay=False), help="Save a picture of one file.")
def inspect(sources: tuple[str, ...], as_json: bool, spikes: bool | None, picture: Path | None) -> None:
    """Units, interval tables, columns, rates and problems of an NWB file, and the call that would read it.

    Several files give a line each.
    """
    with _plainly():
        from nwb_lint.nwb.inspect import describe_all
        from nwb_lint.nwb.listing import format_description, format_table, to_json
        from nwb_lint.nwb.source import NWBError

        found = describe_all(list(sources), spikes=spikes, progress=sys.stderr.isatty())
        failed = [one for one in found if one.error]
        if as_json:
            click.echo(to_json(found))
        elif len(found) > 1:
            click.echo(format_table(found))
        elif not failed:
            click.echo(format_description(found[0]))
        if failed:
            raise NWBError(failed[0].error if len(found) == 1 else _not_read(failed, len(found)))
        if picture is not None:
            _picture(found[0].path, len(found), picture)


def _not_read(failed: list, n: int) -> str:
    return f"{len(failed)} of {n} files cannot be read, first {failed[0].error}"


def _picture(path: str, n: int, picture: Path) -> None:
    """The session as a picture, which is of one file."""
    if n > 1:
        raise click.UsageError(f"--plot is of one file; these are {n}.")
    from nwb_lint.nwb.presence import session_map
    from nwb_lint.plot_session import session_summary

    session_summary(session_map(path), picture)
    click.echo(f"written: {picture}", err=True)


@app.command()
@click.argument("source")
def init(source: str) -> None:
    """Print a recipe with the file's own columns filled in: nwb-lint init SOURCE > recipe.toml."""
    with _plainly():
        from nwb_lint.nwb.inspect import suggest
        from nwb_lint.recipe import make_recipe

        asked = suggest(source)
        resolved = source if "://" in source else str(Path(source).resolve())
        out = f"{Path(source).stem}_desc-lowrank.nwb"
        click.echo(make_recipe({"sources": [resolved], "out": out, "read": asked}).text(), nl=False)


@app.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE.toml | SOURCE...")
@click.option("--by", multiple=True, help="Trial column to group by; COLUMN:rank matches values by rank.")
@click.option("--align", help="Time column that is 0 of the time axis.")
@click.option("--window", nargs=2, type=float, metavar="START STOP", help="Window around it, s.")
@click.option("--bin", "bin_s", type=float, help="Bin, s.")
@click.option("--smooth", "smooth_s", type=float, help="Standard deviation of the Gaussian, s; 0 = none.")
@click.option("--where", help="Query over the trial columns, e.g. \"correct and context == 'motion'\".")
@click.option("--table", help="Interval table.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), help="Files that cannot be read: fail, or leave out.")
@click.option("--rank", type=int, help="Rank of the network.")
@click.option("--ranks", metavar="A:B", help="Ranks to choose from by cross-validation, e.g. 1:5.")
@click.option("--tau", "tau_s", type=float, help="Time constant, s.")
@click.option("--hidden", type=int, help="Unobserved units beside the recorded ones.")
@click.option("--holdout", type=float, help="Held-out conditions: a fraction or a number.")
@click.option("--burn-in", "burn_in_s", type=float, help="Time on the inputs before the window, s.")
@click.option("--seed", type=int, help="Seed of splits and starts.")
@click.option("--hold", type=click.Choice(["condition", "neuron"]), help="What folds hold out when ranks are compared.")
@click.option("--ensemble", type=int, help="Members of an ensemble that shows how well connectivity is determined.")
@click.option("--baselines/--no-baselines", default=None, help="Cross-validate simpler and freer models too.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes of this machine that compute.")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a running Dask cluster that computes.")
@click.option("--cells", type=click.Path(path_type=Path), help="Folder of finished cells: a stopped run goes on.")
@click.option("--out", type=click.Path(path_type=Path), help="The fit's NWB file.")
@click.option("--force", is_flag=True, help="Replace the file of an earlier fit.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure beside the fit.")
def fit(
    sources: tuple[str, ...],
    workers: int,
    dask: str | None,
    cells: Path | None,
    out: Path | None,
    force: bool,
    plot: bool,
    **flags: Any,
) -> None:
    """Fit a low-rank network to one or several NWB files, as a recipe says or as the flags do (flags win)."""
    with _plainly():
        from nwb_lint.model.sweep import open_executor
        from nwb_lint.nwb.source import expand
        from nwb_lint.nwb.write import check_target, write_fit
        from nwb_lint.pipeline import run_recipe

        recipe = _recipe(sources, flags)
        target = out or (Path(recipe.out) if recipe.out else None)
        if target is None:
            raise click.UsageError("say where the fit goes: --out FIT.nwb, or out = … in the recipe.")
        picture = target.with_suffix(".png")
        check_target(target, expand(recipe.sources), force)
        with open_executor(workers, dask) as executor:
            outcome = run_recipe(recipe, executor=executor, cells=cells, progress=sys.stderr.isatty())
        write_fit(outcome.fit, target, overwrite=force)
        files = [target]
        if plot:
            from nwb_lint.plot import summary

            summary(outcome.fit, outcome.activity, picture)
            files.append(picture)
        _print_assets(outcome.activity)
        _print_scores(outcome.fit, outcome.tables)
        _print_seconds(outcome.seconds)
        _print_files(files)


@app.command()
@click.argument("fit_file", metavar="FIT.nwb")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The netCDF file.")
@click.option("--name", help="Which fit, where the file holds several.")
@click.option("--force", is_flag=True, help="Replace the file.")
def export(fit_file: str, out: Path, name: str | None, force: bool) -> None:
    """Write a fit as netCDF, for people without NWB."""
    with _plainly():
        from nwb_lint.nwb.netcdf import export_netcdf
        from nwb_lint.nwb.write import read_fit

        export_netcdf(read_fit(fit_file, name), out, overwrite=force)
        _print_files([out])


def _recipe(sources: tuple[str, ...], flags: dict[str, Any]):
    """The recipe of the file, or of the flags alone, with every flag that was given put over it."""
    from nwb_lint.recipe import load_recipe, make_recipe

    data: dict[str, Any] = {"sources": list(sources), "read": {}, "prepare": {}, "fit": {}}
    if sources[0].endswith(".toml"):
        if len(sources) > 1:
            raise click.UsageError("give one recipe, or NWB files, not both.")
        data = load_recipe(sources[0]).model_dump(mode="json", exclude_none=True)
    elif missing := [name for name in ("by", "align", "window") if not flags[name]]:
        raise click.UsageError(f"without a recipe these are needed too: {', '.join('--' + name for name in missing)}.")
    if flags["by"]:
        data["read"]["by"] = [{by.removesuffix(":rank"): "rank"} if by.endswith(":rank") else by for by in flags["by"]]
    if flags["window"]:
        data["read"]["window_s"] = list(flags["window"])
    parts = {
        "read": ("align", "bin_s", "smooth_s", "where", "table", "errors"),
        "prepare": ("burn_in_s",),
        "fit": ("tau_s", "hidden", "holdout", "seed", "hold", "ensemble", "baselines"),
    }
    for part, names in parts.items():
        data[part] |= {name: flags[name] for name in names if flags[name] is not None}
    if flags["rank"] is not None and flags["ranks"]:
        raise click.UsageError("give --rank or --ranks, not both.")
    if flags["rank"] is not None:
        data["fit"]["ranks"] = [flags["rank"]]
    if flags["ranks"]:
        low, colon, high = flags["ranks"].partition(":")
        if not (low.isdigit() and (high.isdigit() or not colon)):
            raise click.UsageError(f"--ranks is {flags['ranks']!r}; it needs A:B, e.g. 1:5.")
        data["fit"]["ranks"] = list(range(int(low), int(high or low) + 1))
    return make_recipe(data)


def _print_scores(fit, tables: dict[str, Any]) -> None:
    """R² per rank and of the fit, and the tables beside it, each with its split and its ceiling."""
    click.echo(
        f"{fit.sizes['neuron'] - fit.attrs['hidden']} units, {fit.sizes['condition']} conditions, "
        f"{int(fit['held_out'].sum())} of them held out"
    )
    if "ranks" in tables:
        table = tables["ranks"]
        whose = " of held-out neurons" if table.attrs["hold"] == "neuron" else ""
        names = [f"{r}{' <- chosen' if r == table.attrs['rank'] else ''}" for r in table["rank_tried"].values]
        _print_table(f"R²{whose} by rank", names, table, "rank")
    if "baselines" in tables:
        table = tables["baselines"]
        _print_table(f"R² of rank {table.attrs['rank']} and of baselines", table["baseline"].values, table, "baseline")
    if "ensemble" in tables:
        _print_ensemble(tables["ensemble"])
    click.echo(f"\nrank {fit.sizes.get('rank', 'none')} fit         R²    ceiling")
    for split, value, top in zip(fit["split"].values, fit["r2"].values, fit["r2_ceiling"].values, strict=True):
        click.echo(f"  {split:<10s} {value:8.3f} {top:10.3f}")


def _print_assets(activity) -> None:
    """What several files gave: one line, and a table of those that gave less than they have."""
    from nwb_lint.nwb.assemble import format_assets

    if len(activity.attrs["assets"]) > 1:
        click.echo(format_assets(activity, all_files=False) + "\n")


def _print_table(title: str, names: Sequence[str], table, of: str) -> None:
    """One row per model, R² in training and held out ± standard error over folds; their ceiling below."""
    click.echo(f"\n{title} (cross-validated, among the training conditions)")
    click.echo(f"  {'':22s} {'in training':>12s} {'held out ± s.e.':>18s}")
    values, errors = table[f"{of}_r2"].values, table[f"{of}_r2_sem"].values[:, 1]
    for name, (trained, held), error in zip(names, values, errors, strict=True):
        click.echo(f"  {name:22s} {trained:12.3f} {held:10.3f} ± {error:.3f}")
    trained, held = table[f"{of}_r2_ceiling"].values
    click.echo(f"  {'ceiling':22s} {trained:12.3f} {held:10.3f}")


def _print_ensemble(table) -> None:
    """How far the members' effective connectivities agree, and how well each predicts."""
    good = table["as_good"].values
    r2, top = table["r2"].values[good, 1], table["r2_ceiling"].values[good, 1]
    click.echo(f"\nensemble over {table.attrs['over']}: {int(good.sum())} of {len(good)} members equally good")
    click.echo(
        f"  R² held out            {r2.mean():.3f}, from {r2.min():.3f} to {r2.max():.3f}; ceiling {top.mean():.3f}"
    )
    agreement = f"Pearson {table.attrs['pearson']:.3f}, cosine {table.attrs['cosine']:.3f}"
    click.echo(f"  effective connectivity {agreement} between members (mean over pairs)")
    spread = sorted(table["spread_post"].values)
    click.echo(
        f"  spread per neuron      {spread[len(spread) // 2]:.2f} of its mean (median), {spread[-1]:.2f} at most"
    )


def _print_seconds(seconds: dict[str, float]) -> None:
    click.echo("\nseconds")
    for stage, value in seconds.items():
        click.echo(f"  {stage:<14s} {value:6.2f}")


def _print_files(files: list[Path]) -> None:
    click.echo("\nwritten: " + ", ".join(str(path) for path in files))


def main(args: list[str] | None = None, **options: Any) -> Any:
    """Entry point of ``nwb-lint``."""
    return app.main(args=args, prog_name="nwb-lint", **options)


if __name__ == "__main__":
    main()

"""NWB → fit → NWB, from a built-in session, a recipe or flags; a fit as netCDF."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.shell import parse_pairs, plainly, print_assets, print_files, print_scores, print_seconds


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("nwb_lint_demo"))
@click.option("--seed", default=0, help="Seed of the simulated session and of the fit.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure.")
def demo(folder: Path, seed: int, plot: bool) -> None:
    """Simulate a session with a known network inside, fit it from its NWB file, write it back, and compare."""
    with plainly():
        from nwb_lint.workflow.demo import run_demo

        found = run_demo(folder, seed=seed, figure=plot, progress=sys.stderr.isatty())
        print_scores(found.fit, found.tables)
        click.echo("\ntrue against recovered effective connectivity")
        click.echo(f"  Pearson  {found.pearson:.3f}\n  cosine   {found.cosine:.3f}")
        print_seconds(found.seconds)
        print_files(found.files)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE.toml | SOURCE...")
@click.option("--by", multiple=True, help="Trial column to group by; COLUMN:rank matches values by rank.")
@click.option("--align", help="Time column that is 0 of the time axis.")
@click.option("--window", nargs=2, type=float, metavar="START STOP", help="Window around it, s.")
@click.option("--bin", "bin_s", type=float, help="Bin, s.")
@click.option("--smooth", "smooth_s", type=float, help="Standard deviation of the Gaussian, s; 0 = none.")
@click.option("--where", help="Query over the trial columns, e.g. \"correct and context == 'motion'\".")
@click.option("--series", metavar="NAME", help="Time series of the activity, in place of spikes: its path or name.")
@click.option("--table", help="Interval table.")
@click.option("--within", nargs=2, metavar="FROM TO", help="Columns of times: outside of them nothing is observed.")
@click.option("--warp", nargs=2, metavar="FROM TO", help="Events between which time is stretched to the median.")
@click.option("--infer-obs", is_flag=True, default=None, help="Trials after a unit's last spike are not observed.")
@click.option("--download", is_flag=True, default=None, help="Keep remote files whole on this machine.")
@click.option("--errors", type=click.Choice(["raise", "skip"]), help="Files that cannot be read: fail, or leave out.")
@click.option("--rank", type=int, help="Rank of the network.")
@click.option("--ranks", metavar="A:B", help="Ranks to choose from by cross-validation, e.g. 1:5.")
@click.option("--tau", "tau_s", type=float, help="Time constant, s.")
@click.option("--hidden", type=int, help="Unobserved units beside the recorded ones.")
@click.option("--test-size", type=float, help="Held-out conditions: a fraction or a number.")
@click.option("--burn-in", "burn_in_s", type=float, help="Time on the inputs before the window, s.")
@click.option("--seed", type=int, help="Seed of splits and starts.")
@click.option("--cv-over", type=click.Choice(["condition", "neuron"]), help="What a fold holds out.")
@click.option("--ensemble", type=int, help="Members of an ensemble that shows how well connectivity is determined.")
@click.option("--baselines/--no-baselines", default=None, help="Cross-validate simpler and freer models too.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes of this machine that compute.")
@click.option("--dask", metavar="ADDRESS", help="Scheduler of a running Dask cluster that computes.")
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Folder for finished fits: a stopped run does only the rest."
)
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="Of the animal, e.g. age=P90D; the sources' else.")
@click.option("--out", type=click.Path(path_type=Path), help="The fit's NWB file.")
@click.option("--force", is_flag=True, help="Fit again and replace the file, whatever it holds.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure beside the fit.")
def fit(
    sources: tuple[str, ...],
    workers: int,
    dask: str | None,
    cache_dir: Path | None,
    out: Path | None,
    force: bool,
    plot: bool,
    **flags: Any,
) -> None:
    """Fit a low-rank network to one or several NWB files, as a recipe says or as the flags do (flags win)."""
    with plainly():
        from nwb_lint.nwb.extension.write import check_target, write_fit
        from nwb_lint.nwb.storage.source import expand
        from nwb_lint.parallel.executors import open_executor
        from nwb_lint.workflow.run import run_recipe, up_to_date

        recipe = _recipe(sources, flags)
        target = out or (Path(recipe.out) if recipe.out else None)
        if target is None:
            raise click.UsageError("say where the fit goes: --out FIT.nwb, or out = … in the recipe.")
        assets = expand(recipe.sources)
        if not force and up_to_date(recipe, assets, target):
            click.echo(
                f"{target} is the fit of this recipe and these files already: nothing to do (--force fits again)."
            )
            return
        picture = target.with_suffix(".png")
        check_target(target, assets, force)
        with open_executor(workers, dask) as executor:
            outcome = run_recipe(
                recipe, assets=assets, executor=executor, cache_dir=cache_dir, progress=sys.stderr.isatty()
            )
        said = recipe.subject.model_dump(exclude_none=True) if recipe.subject else None
        write_fit(outcome.fit, target, results=outcome.tables, overwrite=force, subject=said)
        files = [target]
        if plot:
            from nwb_lint.plot import summary

            summary(outcome.fit, outcome.activity, picture)
            files.append(picture)
        print_assets(outcome.activity)
        print_scores(outcome.fit, outcome.tables)
        print_seconds(outcome.seconds)
        print_files(files)


@click.command()
@click.argument("fit_file", metavar="FIT.nwb")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The netCDF file.")
@click.option("--name", help="Which fit, where the file holds several.")
@click.option("--force", is_flag=True, help="Replace the file.")
def export(fit_file: str, out: Path, name: str | None, force: bool) -> None:
    """Write a fit as netCDF, for people without NWB."""
    with plainly():
        from nwb_lint.nwb.extension.netcdf import export_netcdf
        from nwb_lint.nwb.extension.read import read_fit

        export_netcdf(read_fit(fit_file, name), out, overwrite=force)
        print_files([out])


@click.command("import")
@click.argument("exported", metavar="MODEL.nc")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The fit's NWB file.")
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="Of the animal, e.g. age=P90D; the sources' else.")
@click.option("--force", is_flag=True, help="Replace the file.")
def import_(exported: str, out: Path, subject: tuple[str, ...], force: bool) -> None:
    """Write a fit that `export` made a netCDF file of to an NWB file again, identical."""
    with plainly():
        from nwb_lint.nwb.extension.netcdf import import_netcdf
        from nwb_lint.nwb.extension.write import write_fit

        said = parse_pairs(subject, "--subject")
        print_files([write_fit(import_netcdf(exported), out, subject=said or None, overwrite=force)])


def _recipe(sources: tuple[str, ...], flags: dict[str, Any]):
    """The recipe of the file, or of the flags alone, with every flag that was given put over it."""
    from nwb_lint.workflow.recipe import load_recipe, make_recipe

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
    data["read"] |= {name: list(flags[name]) for name in ("within", "warp") if flags[name]}
    parts = {
        "read": ("align", "bin_s", "smooth_s", "where", "series", "table", "errors", "infer_obs", "download"),
        "prepare": ("burn_in_s",),
        "fit": ("tau_s", "hidden", "test_size", "seed", "cv_over", "ensemble", "baselines"),
    }
    for part, names in parts.items():
        data[part] |= {name: flags[name] for name in names if flags[name] is not None}
    if flags["subject"]:
        data["subject"] = data.get("subject", {}) | parse_pairs(flags["subject"], "--subject")
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

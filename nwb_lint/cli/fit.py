"""NWB → fit → NWB, from a built-in session, a recipe or flags; a fit as netCDF."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import click

from nwb_lint.cli.flags import flags, given, parse
from nwb_lint.cli.shell import (
    check_output,
    echo,
    note_at_end,
    parse_pairs,
    plainly,
    print_files,
    print_reading,
    print_scores,
    print_seconds,
    quiet,
    read_fit_of,
    run_on,
    with_json,
)
from nwb_lint.options.base import Options, plain
from nwb_lint.options.read_and_prepare import BehaviorOptions, InputOptions
from nwb_lint.options.recipe_sections import (
    BaselineSection,
    BlocksSection,
    BootstrapSection,
    DecodingSection,
    EnsembleSection,
    FitSection,
    InferredSection,
    InputSetSection,
    PrepareSection,
    ReadoutWeightSection,
    ReadSection,
    SelectSection,
    SubsamplingSection,
    TrialFitSection,
    TrialReadSection,
    TrialSelectSection,
)


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("nwb_lint_demo"))
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the simulated session and of the fit.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure.")
def demo(folder: Path, seed: int, plot: bool) -> None:
    """Simulate a session with a known network inside, fit it from its NWB file, write it back, and compare.

    Means over trials are fitted first, then single trials.
    """
    with plainly():
        from nwb_lint.workflow.demo import run_demo

        found = run_demo(folder, seed=seed, figure=plot, progress=not quiet())
        echo("means over trials\n")
        print_scores(found.fit, found.tables)
        echo(
            "\ntrue against recovered effective connectivity (over all its entries; 1 is the same, 0 nothing in common)"
        )
        echo(f"  Pearson  {found.pearson:.3f}\n  cosine   {found.cosine:.3f}")
        echo("\nsingle trials\n")
        print_scores(found.trial_fit, {})
        echo(f"  correlation of the latent of single trials with the true one  {found.latent:.3f}")
        print_seconds(found.seconds)
        print_files(found.files)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE.toml | SOURCE...", type=click.Path())
@click.option("--source", "instead", multiple=True, help="NWB files in place of those of the recipe.")
@click.option(
    "--trials/--means",
    "of_trials",
    default=None,
    help="Fit single trials (a stochastic network), or means over trials.  [default: as the recipe says, else means]",
)
@flags(ReadSection, section="read", trials=TrialReadSection)
@flags(PrepareSection, section="prepare")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="Fields of an input, without _s: name, column, equals, scale, window (START:STOP, or START:…:STOP for "
    "several), lag, start, stop, series, events, table, …, as in name=run,series=speed,scale=0.1.",
)
@click.option(
    "--readout",
    "readouts",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="Fields of a behavior that is fitted too, without _s: name, column, equals, series, series_column, log, "
    "window (START:STOP), as in name=choice,column=choice,window=0.5:0.8.",
)
@click.option("--rank", type=click.IntRange(1), help="The rank, without a choice among --ranks.")
@flags(FitSection, section="fit", trials=TrialFitSection)
@flags(SelectSection, section="select", trials=TrialSelectSection)
@click.option("--ensemble/--no-ensemble", default=None, help="Repeat the fit: is connectivity determined?")
@flags(EnsembleSection, section="ensemble", prefix="ensemble")
@click.option("--baselines/--no-baselines", default=None, help="Cross-validate simpler and freer models too.")
@flags(BaselineSection, section="baselines", prefix="baselines")
@click.option("--subsampling/--no-subsampling", default=None, help="Repeat the choice of rank on fewer neurons.")
@flags(SubsamplingSection, section="subsampling", prefix="subsampling")
@click.option("--blocks/--no-blocks", default=None, help="Choose the blocks between --areas on held-out data.")
@flags(BlocksSection, section="blocks", prefix="blocks")
@click.option("--bootstrap/--no-bootstrap", default=None, help="Repeat the fit on resampled trials: intervals.")
@flags(BootstrapSection, section="bootstrap", prefix="bootstrap")
@flags(InputSetSection, section="compare_inputs", prefix="compare-inputs")
@click.option("--compare-readouts/--no-compare-readouts", default=None, help="Choose the weight of behavior.")
@flags(ReadoutWeightSection, section="compare_readouts", prefix="compare-readouts")
@click.option("--decode/--no-decode", default=None, help="Decode behavior of held-out trials from the latents.")
@flags(DecodingSection, section="decode", prefix="decode")
@click.option("--infer-inputs/--no-infer-inputs", default=None, help="Infer inputs that nobody recorded.")
@flags(InferredSection, section="infer_inputs", prefix="infer-inputs")
@run_on
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="What the sources do not say, such as age=P90D.")
@click.option("--out", type=click.Path(path_type=Path), help="The NWB file of the fit.")
@click.option("--force", is_flag=True, help="Fit again and replace the file, whatever it holds.")
@click.option("--plot/--no-plot", default=True, help="Save the summary figure beside the fit.")
@with_json
def fit(
    sources: tuple[str, ...],
    workers: int,
    dask: str | None,
    cache_dir: Path | None,
    out: Path | None,
    force: bool,
    plot: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Fit a low-rank network to one or several NWB files, as a recipe says or as the flags do. Flags win.

    With --trials, a stochastic network is fitted to the spikes of single trials, else a network to means over trials.
    """
    with plainly():
        from nwb_lint.nwb.extension.write import check_target
        from nwb_lint.nwb.recording.averaging import find_recordings
        from nwb_lint.parallel.executors import open_executor
        from nwb_lint.workflow.run import run_recipe, up_to_date

        _check_sources(sources)
        recipe = _recipe(sources, parameters)
        target = out or (Path(recipe.out) if recipe.out else None)
        if target is None:
            raise click.UsageError("The fit has no file. Give --out FIT.nwb, or out = … in the recipe.")
        assets = _without_target(find_recordings(recipe.sources, exclude=recipe.read.exclude), target)
        picture = target.with_suffix(".png")
        if not force and up_to_date(recipe, assets, target):
            echo(
                f"{target} is the fit of this recipe and these files already: nothing to do (--force fits again).",
                err=as_json,
            )
            _as_if_fitted(target, picture if plot else None, as_json)
            return
        check_target(target, assets, force)
        _check_outputs(recipe, target, picture if plot else None, cache_dir)
        with open_executor(workers, dask) as executor, _resumable(cache_dir):
            outcome = run_recipe(recipe, assets=assets, executor=executor, cache_dir=cache_dir, progress=not quiet())
        lost = write_or_keep(outcome, recipe, target, force)
        files = [] if lost else [target]
        files += _drawn(outcome.fit, outcome.activity, picture) if plot and not lost else []
        if not as_json:
            print_reading(outcome.activity, [] if recipe.inputs else recipe.input_list())
        print_scores(outcome.fit, outcome.tables, as_json)
        if not as_json:
            print_seconds(outcome.seconds)
        if lost:
            raise lost
        print_files(files, err=as_json)


def _as_if_fitted(target: Path, picture: Path | None, as_json: bool) -> None:
    """Renew the time of a fit that is there, for make and Snakemake, and draw and print what is not there yet."""
    from nwb_lint.nwb.extension.read import read_results

    os.utime(target)
    fit = read_fit_of(str(target), None)
    if as_json:
        print_scores(fit, read_results(target), as_json)
    if picture is not None and not picture.exists():
        print_files(_drawn(fit, None, picture), err=as_json)


def _drawn(fit: Any, activity: Any, picture: Path) -> list[Path]:
    """The summary figure; where it cannot be saved there is a warning, since the fit is there."""
    from nwb_lint.errors import NWBLintError
    from nwb_lint.plot import summary

    try:
        summary(fit, activity, picture)
    except (OSError, NWBLintError) as error:
        warnings.warn(f"There is no picture: {picture} cannot be saved ({error}).", stacklevel=1)
        return []
    return [picture]


@contextmanager
def _resumable(cache_dir: Path | None) -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        kept = (
            f"Finished fits are in {cache_dir}"
            if cache_dir
            else "Finished fits are lost. With --cache-dir they are kept"
        )
        echo(f"stopped. {kept}: the same command then continues.", err=True)
        raise


def _check_outputs(recipe: Any, target: Path, picture: Path | None, cache_dir: Path | None) -> None:
    """Refuse files and folders that cannot be written before the work."""
    from nwb_lint.errors import ContractError
    from nwb_lint.nwb.storage.metadata import check_subject, make_subject

    check_output(target)
    if picture is not None:
        from nwb_lint.plot.style import check_picture

        check_picture(picture)
    if recipe.fit.checkpoint is not None:
        check_output(Path(recipe.fit.checkpoint))
    if cache_dir is not None and cache_dir.exists() and not (cache_dir.is_dir() and os.access(cache_dir, os.W_OK)):
        raise ContractError(f"cache_dir is {cache_dir}. It needs to be a folder that may be written. Give another one.")
    if recipe.subject is not None:
        subject = recipe.subject.model_dump(exclude_none=True)
        check_subject(subject)
        make_subject(subject)


def write_or_keep(outcome: Any, recipe: Any, target: Path, force: bool) -> Exception | None:
    """Write the fit of a recipe. Where that fails, keep it in another folder, and return the error that says where."""
    from nwb_lint.errors import NWBError, NWBLintError
    from nwb_lint.nwb.extension.write import write_fit

    how: dict[str, Any] = {"results": outcome.tables}
    subject = recipe.subject.model_dump(exclude_none=True) if recipe.subject else None
    try:
        write_fit(outcome.fit, target, **how, overwrite=force, subject=subject)
        return None
    except (NWBLintError, OSError) as error:
        failed = error
    for folder in (Path.cwd(), Path(tempfile.gettempdir()), Path.home()):
        kept = folder / f"{target.name.partition('.')[0]}-{uuid.uuid4().hex[:8]}.nwb"
        mask = os.umask(0o077)  # others may look into the folder
        try:
            write_fit(outcome.fit, kept, **how, source=())
        except (NWBLintError, OSError):
            continue
        finally:
            os.umask(mask)
        return NWBError(f"{failed} The fit is not lost: it is in {kept.absolute()}.")
    return failed


@click.command()
@click.argument("fit_file", metavar="FIT.nwb", type=click.Path())
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The netCDF file.")
@click.option("--name", help="Name of the fit, where the file holds several.")
@click.option("--force", is_flag=True, help="Replace the file.")
def export(fit_file: str, out: Path, name: str | None, force: bool) -> None:
    """Write a fit as netCDF, for readers without NWB."""
    with plainly():
        from nwb_lint.nwb.extension.netcdf import export_netcdf

        check_output(out, fit_file)
        export_netcdf(read_fit_of(fit_file, name), out, overwrite=force)
        print_files([out])


@click.command("import")
@click.argument("exported", metavar="MODEL.nc", type=click.Path())
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The NWB file of the fit.")
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="What the sources do not say, such as age=P90D.")
@click.option("--force", is_flag=True, help="Replace the file.")
def import_(exported: str, out: Path, subject: tuple[str, ...], force: bool) -> None:
    """Write a fit from the netCDF file of "export" to an NWB file again, identical."""
    with plainly():
        from nwb_lint.nwb.extension.netcdf import import_netcdf
        from nwb_lint.nwb.extension.read import how_verified
        from nwb_lint.nwb.extension.write import write_fit

        given_subject = parse_pairs(subject, "--subject")
        check_output(out, exported)
        found = import_netcdf(exported)
        note_at_end(f"{exported}: {how_verified(found)}")
        print_files([write_fit(found, out, subject=given_subject or None, overwrite=force)])


_SWITCHES = (
    "ensemble", "baselines", "subsampling", "blocks", "bootstrap", "compare_readouts", "decode", "infer_inputs",
)  # fmt: skip  # sections that a flag alone asks for


def _recipe(sources: tuple[str, ...], parameters: dict[str, Any]) -> Any:
    """The recipe of the file, or of the flags alone, with every flag that was given in place of its field."""
    from nwb_lint.workflow.recipe import SECTIONS, load_recipe, make_recipe, recipe_data

    from_file = sources[0].endswith(".toml")
    if from_file and len(sources) > 1:
        raise click.UsageError("A recipe and NWB files are both given. Give the files as --source.")
    data: dict[str, Any] = recipe_data(load_recipe(sources[0])) if from_file else {"sources": list(sources)}
    if parameters["instead"]:
        data["sources"] = list(parameters["instead"])
    if parameters["of_trials"] is not None:
        data["mode"] = "trials" if parameters["of_trials"] else "means"
    trials = data.get("mode") == "trials"
    for name in SECTIONS:
        own = given(parameters, name)
        if name == "read" and "units" in own:
            own["units"] = _units(own["units"])
        if name == "read" and "by" in own and not trials:
            own["by"] = [{by.removesuffix(":rank"): "rank"} if by.endswith(":rank") else by for by in own["by"]]
        switch = parameters.get(name) if name in _SWITCHES else None
        if switch is False:
            data.pop(name, None)
        elif own or switch or name == "read":
            data[name] = data.get(name, {}) | own
    needed_fields = ("align", "window_s") if trials else ("by", "align", "window_s")
    missing = [name for name in needed_fields if name not in data["read"]]
    if missing:
        needed = ", ".join("--" + name.removesuffix("_s") for name in missing)
        raise click.UsageError(f"without a recipe these are needed too: {needed}.")
    if parameters["rank"] is not None:
        if "ranks" in given(parameters, "select"):
            raise click.UsageError("--rank and --ranks are both given. Give one of them.")
        data["select"] = data.get("select", {}) | {"ranks": [parameters["rank"]]}
    if parameters["inputs"]:
        data["inputs"] = [_fields(text, "--input", InputOptions) for text in parameters["inputs"]]
    if parameters["readouts"]:
        data["readouts"] = [_fields(text, "--readout", BehaviorOptions) for text in parameters["readouts"]]
    if parameters["subject"]:
        data["subject"] = data.get("subject", {}) | parse_pairs(parameters["subject"], "--subject")
    return make_recipe(data)


def _check_sources(sources: tuple[str, ...]) -> None:
    """Say how a flag is given several values, where a source that does not exist follows the value of a flag."""
    context = click.get_current_context()
    words = context.find_root().obj or []
    repeated = {flag for one in context.command.params if getattr(one, "multiple", False) for flag in one.opts}
    for flag, value, source in zip(words, words[1:], words[2:], strict=False):
        if (
            flag in repeated
            and source in sources
            and not re.search(r"://|[*?\[]", source)
            and not Path(source).exists()
        ):
            raise click.UsageError(f"{source}: no such file. For two values write {flag} {value} {flag} {source}.")


def _without_target(assets: list[Any], target: Path) -> list[Any]:
    """The files but an earlier fit at the target, which a pattern of recordings may match."""
    from nwb_lint.nwb.recording.averaging import fits_alone

    there = target.resolve()
    own = [one for one in assets if not one.remote and one.path.resolve() == there and fits_alone(one)]
    return [one for one in assets if one not in own] if len(own) < len(assets) else assets


def _units(texts: tuple[str, ...]) -> Any:
    """Ids or labels of several flags, or with a comma between them (1,2 or 1:5); any other single text is a query."""
    if len(texts) > 1:
        return texts
    first, colon, last = texts[0].partition(":")
    if colon and first.isdigit() and last.isdigit():
        return plain(range(int(first), int(last) + 1))
    parts = [part.strip() for part in texts[0].split(",")]
    labels = all(re.fullmatch(r"[\w.\-]+", part) for part in parts)
    return tuple(parts) if labels and (len(parts) > 1 or parts[0].isdigit()) else texts[0]


def _fields(text: str, flag: str, options: type[Options]) -> dict[str, Any]:
    """An input or readout of KEY=VALUE pairs: name=motion,column=motion,window=0:0.8; adjacent windows: 0:0.4:0.8.

    The keys are its fields, without _s at the end. A comma that no key follows belongs to the value.
    """
    fields = options.model_fields
    names = {name.removesuffix("_s"): name for name in fields}
    pairs = parse_pairs(re.split(r",(?=\s*\w+=[^=])", text), flag)
    values: dict[str, Any] = {}
    for key, value in ((key.strip(), value) for key, value in pairs.items()):
        name = names.get(key, key)
        kinds = fields[name].annotation if name in fields else str
        try:
            if name == "window_s":
                edges = [float(edge) for edge in value.split(":")]
                values[name] = list(pairwise(edges)) if len(edges) > 2 else edges
            elif name in ("weights", "times", "values"):
                values[name] = [float(one) for one in value.split(":")]
            elif kinds is bool:
                values[name] = parse(value, bool)
            elif name != "equals" and {int, float} & {kinds, *get_args(kinds)}:
                values[name] = int(value) if int in (kinds, *get_args(kinds)) else float(value)
            else:
                values[name] = value
        except ValueError:
            raise click.UsageError(
                f"{flag} is {text!r}. {key} is {value!r}. It needs {_forms(name)}. Write {flag} name=…,{key}=…."
            ) from None
    return values


def _forms(name: str) -> str:
    """What the text of a field of an input may be, in words."""
    forms = {"window_s": "START:STOP, s, or START:…:STOP", "series_column": "a whole number", "log": "yes or no"}
    return forms.get(name, "numbers with : between" if name in ("weights", "times", "values") else "a number")

"""A fit to look at: as a page, as text, and beside another fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.flags import flags, given
from nwb_lint.cli.shell import (
    can_be_saved,
    checked,
    echo,
    of_fit,
    plainly,
    print_files,
    print_result,
    quiet,
    read_fit_of,
    with_json,
)
from nwb_lint.options.reports import CompareOptions, FigureOptions, ReportOptions
from nwb_lint.reports.notebook import FIGURES


def _page(path: Path) -> None:
    from nwb_lint.reports.page import check_page

    check_page(path)


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    callback=checked(_page),
    help="The page.  [default: the name of the fit's file, with .html]",
)
@flags(ReportOptions)
@of_fit
def report(path: str, out: Path | None, name: str | None, **parameters: Any) -> None:
    """Write a page about a fit: data, assumptions, scores, dynamics, populations, warnings. It needs no other file."""
    with plainly():
        target = out or _beside(path)
        if out is None:
            _page(target)
        print_files([_report(path, name, parameters).save(target)])


def _beside(path: str) -> Path:
    """The page of a fit: beside its file, or in the working folder for an address."""
    page = Path(path.rstrip("/").rpartition("/")[2]).stem.removesuffix(".nwb") + ".html"
    from nwb_lint.nwb.storage.source import is_path

    return Path(path).parent / page if is_path(path) else Path(page)


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@flags(ReportOptions, without=("interactive",))
@of_fit
def show(path: str, name: str | None, **parameters: Any) -> None:
    """Print what "report" writes, as text, without the figures."""
    with plainly():
        echo(_report(path, name, parameters))


def _report(path: str, name: str | None, parameters: dict[str, Any]) -> Any:
    from nwb_lint.nwb.extension.read import read_results
    from nwb_lint.reports.report import report as make_report

    fit = read_fit_of(path, name)
    return make_report(fit, read_results(path, name), progress=not quiet(), **given(parameters))


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.argument("others", metavar="OTHER.nwb ...", type=click.Path(), nargs=-1, required=True)
@of_fit
@click.option("--other-name", metavar="NAME", help="Name of the other fits, where their files hold several.")
@flags(CompareOptions)
@with_json
def compare(
    path: str, others: tuple[str, ...], name: str | None, other_name: str | None, as_json: bool, **parameters: Any
) -> None:
    """Compare fits. Two that share neurons: scores, connectivity, latents, fixed points, options. More: their dynamics,
    by DSA, or by how well the latents of one explain those of another.
    """
    with plainly():
        from nwb_lint.reports.analyses import of_analysis
        from nwb_lint.reports.comparison import compare as compare_fits
        from nwb_lint.reports.comparison import of_comparison
        from nwb_lint.validation.dynamics_comparison import compare_dynamics

        fits = [read_fit_of(path, name), *(read_fit_of(other, other_name) for other in others)]
        if len(fits) == 2:
            found = compare_fits(*fits, **given(parameters))
            print_result(found, of_comparison(found), as_json)
            return
        names = _labels([path, *others])
        found = compare_dynamics(
            dict(zip(names, fits, strict=True)), measure="dsa" if parameters["dsa"] else "prediction"
        )
        print_result(found, of_analysis(found), as_json)


def _labels(paths: list[str]) -> list[str]:
    """The names of the files, or their paths where two have the same."""
    names = [Path(path.rstrip("/")).name for path in paths]
    names = names if len(set(names)) == len(names) else paths
    return names if len(set(names)) == len(names) else [f"{k + 1}: {name}" for k, name in enumerate(names)]


_OF_FITS = {
    "summary": "summary", "scores": "scores", "neurons": "neuron_scores", "latents": "latents_over_time",
    "inputs": "inputs", "trajectories": "trajectories", "vectors": "connectivity_vectors",
    "connectivity": "effective_connectivity", "singular-values": "singular_values", "trial-latents": "trial_latents",
    "evidence": "evidence", "drift": "drifting_loadings",
}  # fmt: skip


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    callback=checked(can_be_saved),
    help="PNG, PDF or SVG.",
)
@click.option("--kind", type=click.Choice(list(_OF_FITS)), default="summary", help="What is drawn of the fit.")
@click.option("--rank", type=click.IntRange(1), help="Which latent, of --kind latents, trial-latents and drift.")
@click.option("--result", metavar="NAME", help="Draw this result of the file, in place of the fit.")
@flags(FigureOptions)
@of_fit
def figure(
    path: str, out: Path, kind: str, rank: int | None, result: str | None, name: str | None, **parameters: Any
) -> None:
    """Draw a fit, or a result in its file, without fitting again."""
    if rank is not None and (result is not None or kind not in ("latents", "trial-latents", "drift")):
        raise click.UsageError("--rank goes with --kind latents, trial-latents or drift.")
    with plainly():
        from nwb_lint import plot
        from nwb_lint.errors import ContractError
        from nwb_lint.nwb.extension.read import read_result
        from nwb_lint.plot.style import save_figure

        drawn = read_fit_of(path, name) if result is None else read_result(path, result)
        own = _OF_FITS[kind] if result is None else FIGURES.get(drawn.attrs["kind"])
        if own is None:
            raise ContractError(f"{result} is of kind {drawn.attrs['kind']}, which has no figure of its own.")
        made = getattr(plot, own)(drawn, **given(parameters), **({} if rank is None else {"rank": rank}))
        save_figure(getattr(made, "figure", made), out, 200)
        print_files([out])

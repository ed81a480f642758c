"""A fit to look at: as a page, as text, and beside another fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.flags import flags, given
from nwb_lint.cli.shell import checked, echo, in_terminal, of_fit, plainly, print_files, print_items, read_fit_of
from nwb_lint.options import ReportOptions


def _page(path: Path) -> None:
    from nwb_lint.reports.page import check_page

    check_page(path)


@click.command()
@click.argument("path", metavar="FIT.nwb")
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
        target = out or Path(Path(path.rstrip("/").rpartition("/")[2]).stem.removesuffix(".nwb") + ".html")
        if out is None and "://" not in path:
            target = Path(path).parent / target
        _page(target)
        print_files([_report(path, name, parameters).save(target)])


@click.command()
@click.argument("path", metavar="FIT.nwb")
@flags(ReportOptions)
@of_fit
def show(path: str, name: str | None, **parameters: Any) -> None:
    """Print what `report` writes, as text, without the figures."""
    with plainly():
        echo(_report(path, name, parameters))


def _report(path: str, name: str | None, parameters: dict[str, Any]) -> Any:
    from nwb_lint.nwb.extension.read import read_results
    from nwb_lint.reports.report import report as make_report

    fit = read_fit_of(path, name)
    return make_report(fit, read_results(path, name), progress=in_terminal(), **given(parameters))


@click.command()
@click.argument("path", metavar="FIT.nwb")
@click.argument("other", metavar="OTHER.nwb")
@of_fit
@click.option("--other-name", metavar="NAME", help="Name of the other fit, where its file holds several.")
def compare(path: str, other: str, name: str | None, other_name: str | None) -> None:
    """Compare two fits that share neurons: scores, connectivity, latents, fixed points, options."""
    with plainly():
        from nwb_lint.reports.comparison import compare as compare_fits
        from nwb_lint.reports.comparison import of_comparison

        first, second = read_fit_of(path, name), read_fit_of(other, other_name)
        print_items(of_comparison(compare_fits(first, second)))

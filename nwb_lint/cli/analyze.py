"""What a stored fit means: its connectivity, its populations, where its latents rest, and what its rates tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.flags import flags, given
from nwb_lint.cli.shell import (
    keep_result,
    of_fit,
    parse_pairs,
    plainly,
    print_result,
    read_fit_of,
    save_picture,
    saved_as,
    with_json,
    with_picture,
)
from nwb_lint.options.analyses import FixedPointOptions, PopulationOptions, ReadoutOptions


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@flags(PopulationOptions)
@of_fit
@saved_as
@with_picture
@with_json
def populations(
    path: str, name: str | None, save: str | None, picture: Path | None, as_json: bool, **parameters: Any
) -> None:
    """Find groups of neurons in the loadings of a fit, and their gain in every condition."""
    with plainly():
        from nwb_lint.analysis.populations import find_populations
        from nwb_lint.reports.analyses import of_analysis

        found = find_populations(read_fit_of(path, name, save=save), **given(parameters))
        print_result(found, of_analysis(found), as_json)
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import loadings

            save_picture(loadings(found), picture)


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option("--area", metavar="NAME", help="The area whose currents the picture shows; none: all.")
@click.option("--bootstrap", metavar="NAME", help="A bootstrap in the file, for intervals.")
@of_fit
@saved_as
@with_picture
@with_json
def currents(
    path: str,
    name: str | None,
    save: str | None,
    picture: Path | None,
    as_json: bool,
    area: str | None,
    bootstrap: str | None,
) -> None:
    """Currents from area to area over time, of a fit with areas."""
    if area is not None and picture is None:
        raise click.UsageError("--area goes with --plot.")
    with plainly():
        from nwb_lint.analysis.currents import currents as currents_of
        from nwb_lint.nwb.extension.read import read_result
        from nwb_lint.reports.analyses import of_analysis

        fit = read_fit_of(path, name, save=save)
        found = currents_of(fit, bootstrap=None if bootstrap is None else read_result(path, bootstrap))
        print_result(found, of_analysis(found), as_json)
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import currents as drawn

            save_picture(drawn(found, area=area), picture)


@click.command("fixed-points")
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option("--input", "inputs", multiple=True, metavar="NAME=NUMBER", help="In place of a condition: the others 0.")
@click.option("--bootstrap", metavar="NAME", help="A bootstrap in the file: how many of its draws have each point.")
@flags(FixedPointOptions, without=("input", "refit_fractions", "draws", "other_ranks", "other_ridges"))
@of_fit
@saved_as
@with_picture
@with_json
def fixed_points(
    path: str,
    name: str | None,
    save: str | None,
    picture: Path | None,
    as_json: bool,
    inputs: tuple[str, ...],
    bootstrap: str | None,
    **parameters: Any,
) -> None:
    """Find where the latents of a fit rest under a constant input, and whether they stay there."""
    with plainly():
        from nwb_lint.analysis.fixedpoints import fixed_points as find_fixed_points
        from nwb_lint.nwb.extension.read import read_result
        from nwb_lint.reports.analyses import EXPLAINED, of_analysis

        fit, held, options = read_fit_of(path, name, save=save), _numbers(inputs), given(parameters)
        draws = None if bootstrap is None else read_result(path, bootstrap)
        found = find_fixed_points(fit, input=held, bootstrap=draws, **options)
        print_result(found, [*of_analysis(found), *EXPLAINED], as_json)
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.analysis.dynamics import flow_field
            from nwb_lint.analysis.limitcycles import limit_cycles
            from nwb_lint.plot import flow

            field = flow_field(fit, input=held, condition=options.get("condition"), at_s=options.get("at_s"))
            cycles = limit_cycles(fit, input=held, condition=options.get("condition"), at_s=options.get("at_s"))
            save_picture(flow(field, found, fit if "latent" in fit else None, cycles=cycles), picture)


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option("--raw", is_flag=True, help="Keep m n' / N itself, not its part that moves the dynamics.")
@click.option("--by", metavar="COLUMN", help="Column of the neurons that the picture is sorted by.")
@of_fit
@saved_as
@with_picture
@with_json
def connectivity(
    path: str, name: str | None, save: str | None, picture: Path | None, as_json: bool, raw: bool, by: str | None
) -> None:
    """Overlaps of the connectivity vectors of a fit, and how its weights are distributed."""
    with plainly():
        from nwb_lint.analysis.connectivity import connectivity as connectivity_of
        from nwb_lint.reports.analyses import of_analysis, of_weights

        fit = read_fit_of(path, name, save=save)
        found = connectivity_of(fit, effective=not raw)
        print_result(found, [*of_analysis(found), *of_weights(fit)], as_json)
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import effective_connectivity

            save_picture(effective_connectivity(fit, by=by), picture)


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.argument("column")
@flags(ReadoutOptions)
@of_fit
@saved_as
@with_picture
@with_json
def readout(
    path: str, column: str, name: str | None, save: str | None, picture: Path | None, as_json: bool, **parameters: Any
) -> None:
    """Weights that read a COLUMN of the conditions, such as the choice, from the rates that a fit predicts."""
    with plainly():
        from nwb_lint.analysis.readout import fit_readout
        from nwb_lint.reports.analyses import of_analysis

        found = fit_readout(read_fit_of(path, name, save=save), column, **given(parameters))
        print_result(found, of_analysis(found), as_json)
        keep_result(found, path, name, save)
        if picture is not None:
            from nwb_lint.plot import readout_weights

            save_picture(readout_weights(found), picture)


def _numbers(inputs: tuple[str, ...]) -> dict[str, float] | None:
    try:
        return {key: float(text) for key, text in parse_pairs(inputs, "--input").items()} or None
    except ValueError as error:
        raise click.UsageError(f"--input needs NAME=NUMBER: {error}.") from None

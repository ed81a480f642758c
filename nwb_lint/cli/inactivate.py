"""What a stored fit predicts when groups of its neurons are silenced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.flags import flags, given
from nwb_lint.cli.shell import (
    checked,
    echo,
    keep_result,
    new_file,
    of_fit,
    plainly,
    print_result,
    read_fit_of,
    save_picture,
    saved_as,
    with_json,
    with_picture,
)
from nwb_lint.options.analyses import InactivationOptions


@click.command()
@click.argument("path", metavar="FIT.nwb", type=click.Path())
@click.option("--groups", multiple=True, metavar="COLUMN|QUERY", help="A group per value of a column, or one by query.")
@click.option(
    "--populations",
    type=click.Choice(["em", "bayesian", "small_weights", "strongest_input"]),
    help="Groups found in the fit's loadings.",
)
@click.option("--reference", metavar="NAME", help="Another fit in the file, whose predictions stand beside.")
@flags(InactivationOptions)
@of_fit
@saved_as
@click.option(
    "--csv", "table_path", type=click.Path(path_type=Path), callback=checked(new_file), help="Save the table."
)
@with_picture
@with_json
def inactivate(
    path: str,
    groups: tuple[str, ...],
    populations: str | None,
    reference: str | None,
    name: str | None,
    save: str | None,
    table_path: Path | None,
    picture: Path | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Predict what silencing, suppressing or exciting groups of neurons does, beside random groups of the same size."""
    if not groups and populations is None:
        raise click.UsageError("No group is named. Give --groups COLUMN|QUERY or --populations METHOD.")
    with plainly():
        from nwb_lint.analysis.inactivation import effect_table, groups_of, predict_inactivation
        from nwb_lint.analysis.populations import find_populations
        from nwb_lint.reports.analyses import of_analysis

        fit, options = read_fit_of(path, name, save=save), given(parameters)
        masks: dict[str, Any] = {}
        for group in groups:
            masks |= groups_of(fit, group)
        if populations is not None:
            masks |= groups_of(fit, find_populations(fit, method=populations, seed=options.get("seed", 0)))
        other = None if reference is None else read_fit_of(path, reference)
        result = predict_inactivation(fit, masks, reference=other, **options)
        table = effect_table(result)
        print_result(result, of_analysis(result), as_json)
        keep_result(result, path, name, save)
        if table_path is not None:
            table.to_csv(table_path, index=False)
            echo(f"written: {table_path}", err=True)
        if picture is not None:
            from nwb_lint.plot import inactivation_bars

            quantity = "accuracy" if "accuracy" in result else "effect"
            save_picture(inactivation_bars(result, quantity=quantity), picture)

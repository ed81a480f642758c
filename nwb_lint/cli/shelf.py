"""Networks that others published, as NWB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.shell import echo, plainly


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where to.")
@click.option("--dt-s", type=click.FloatRange(0, min_open=True), help="Step, s, of networks that are not known.")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True), help="dt / tau of networks that are not known.")
@click.option("--nonlinearity", metavar="NAME", help="phi of networks that are not known.")
def shelf(folder: Path, out: Path, **options: Any) -> None:
    """Write every network in a folder to an NWB file: weights of the paper's code, of smc_rnns, and by name.

    FOLDER may hold whole repositories. Published networks are known by their file names; each file names its source.
    """
    with plainly():
        from nwb_lint.tasks.shelf import make_shelf

        placed = make_shelf(folder, out, **{name: value for name, value in options.items() if value is not None})
        made = [one for one in placed if one.path is not None]
        for one in made:
            echo(f"{one.path}: {one.what}, {one.sizes}{', ' * bool(one.address)}{one.address}")
        left = [one for one in placed if one.path is None]
        for one in left:
            echo(f"left out: {one.source}: {one.reason}", err=True)
        echo(f"{len(made)} networks, {len(left)} left out")
        if not made:
            raise click.ClickException(f"No network in {folder} could be converted. See above.")

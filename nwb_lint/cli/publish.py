"""A fit into a DANDI archive."""

from __future__ import annotations

from typing import Any

import click

from nwb_lint.cli.shell import echo, parse_pairs, plainly, quiet, with_flags


@click.command()
@click.argument("fit_file", metavar="FIT.nwb", type=click.Path())
@click.option("--dandiset", required=True, metavar="000000", help="Dandiset whose draft the file goes into.")
@click.option("--instance", default="", show_default="dandi", help="Archive: a name that dandi knows, or its address.")
@click.option("--description", default="lowrank", show_default=True, help="Text after desc- in the name of the file.")
@click.option("--replace", is_flag=True, help="Replace another file at the same path.")
@click.option("--allow-embargoed", is_flag=True, help="Send a fit of embargoed recordings to an open dandiset.")
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="What the file does not say, e.g. age=P90D.")
@click.option("--dry-run", is_flag=True, help="Validate the file and print where it would go; send nothing.")
def publish(fit_file: str, dandiset: str, subject: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Validate a fit's file and upload it to a dandiset, under a path that DANDI takes.

    The key is the one that dandi itself uses: DANDI_API_KEY, or the keyring. Absolute paths of this computer and
    secrets of addresses are replaced in the copy that is sent.
    """
    with plainly():
        from nwb_lint.nwb.extension.publish import publish as send

        pairs = parse_pairs(subject, "--subject")
        found = send(fit_file, dandiset, subject=pairs, dry_run=dry_run, progress=not quiet(), **options)
        for line in found.warnings:
            echo(f"warning: {with_flags(line)}", err=True)
        for line in () if quiet() else found.notes:
            echo(f"note: {line}", err=True)
        done = "would go to" if dry_run else "uploaded:" if found.sent else "there already:"
        echo(f"{done} {found.address}")

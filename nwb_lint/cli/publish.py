"""A fit into a DANDI archive."""

from __future__ import annotations

import click

from nwb_lint.cli.shell import echo, parse_pairs, plainly, with_flags


@click.command()
@click.argument("fit_file", metavar="FIT.nwb", type=click.Path())
@click.option("--dandiset", required=True, metavar="000000", help="Dandiset whose draft the file goes into.")
@click.option("--instance", default="", show_default="dandi", help="Archive: a name that dandi knows, or its address.")
@click.option("--subject", multiple=True, metavar="KEY=VALUE", help="What the file does not say, e.g. age=P90D.")
@click.option("--dry-run", is_flag=True, help="Validate the file and print where it would go; send nothing.")
def publish(fit_file: str, dandiset: str, instance: str, subject: tuple[str, ...], dry_run: bool) -> None:
    """Validate a fit's file and upload it to a dandiset, under a path that DANDI takes.

    The key is the one that dandi itself uses: DANDI_API_KEY, or the keyring.
    """
    with plainly():
        from nwb_lint.nwb.extension.publish import publish as send

        found = send(fit_file, dandiset, instance=instance, dry_run=dry_run, subject=parse_pairs(subject, "--subject"))
        for line in found.warnings:
            echo(f"warning: {with_flags(line)}", err=True)
        done = "would go to" if dry_run else "uploaded:" if found.sent else "there already:"
        echo(f"{done} {found.address}")

"""Before a fit: what a session holds, and a recipe for it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.shell import echo, plainly, quiet, with_flags, with_picture


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="JSON for machines.")
@click.option("--spikes/--no-spikes", default=None, help="Read the spikes.  [default: of local files only]")
@click.option("--units-table", metavar="PATH", help="Units table to describe, where a file has several.")
@click.option("--external", is_flag=True, help="Read other files that a file names, such as those of external links.")
@with_picture
def inspect(
    sources: tuple[str, ...],
    as_json: bool,
    spikes: bool | None,
    units_table: str | None,
    external: bool,
    picture: Path | None,
) -> None:
    """Units, interval tables, columns, rates and warnings of an NWB file, and the call that would read it.

    Several files give a line each.
    """
    with plainly():
        from nwb_lint.errors import NWBError
        from nwb_lint.nwb.inspection.describe import describe_all
        from nwb_lint.nwb.inspection.format import format_description, format_table, to_json

        how: dict[str, Any] = {"spikes": spikes, "units_table": units_table, "external": external}
        found = describe_all(list(sources), **how, progress=not quiet())
        found = [one if one.error else one._replace(fits=_fits(one.path)) for one in found]
        found = [one._replace(warnings=[*map(with_flags, one.warnings)], error=with_flags(one.error)) for one in found]
        failed = [one for one in found if one.error]
        if as_json:
            echo(to_json(found))
        elif len(found) > 1:
            echo(format_table(found))
        elif not failed:
            echo(format_description(found[0]))
        if failed:
            raise NWBError(failed[0].error if len(found) == 1 else _not_read(failed, len(found)))
        if picture is not None:
            _picture(found[0].path, len(found), units_table, external, picture)


def _fits(path: str) -> dict[str, str]:
    """Whether the fits in a file of this machine are what was written; a remote file is not read a second time."""
    from nwb_lint.errors import NWBError
    from nwb_lint.nwb.extension.read import verified_fits

    try:
        return {} if "://" in path else verified_fits(path)
    except NWBError:  # what is wrong with the file is described
        return {}


def _not_read(failed: list, n: int) -> str:
    return f"{len(failed)} of {n} files cannot be read, first {failed[0].error}"


def _picture(path: str, n: int, units_table: str | None, external: bool, picture: Path) -> None:
    """The session as a picture, which is of one file."""
    if n > 1:
        raise click.UsageError(f"--plot is of one file; these are {n}.")
    from nwb_lint.nwb.inspection.session_map import session_map
    from nwb_lint.nwb.storage.source import one_asset
    from nwb_lint.plot import session_summary

    session_summary(session_map(one_asset(path, external=external), units_table=units_table), picture)
    echo(f"written: {picture}", err=True)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path())
@click.option("--units-table", help="Path of the units table.  [default: /units, or the only one]")
@click.option("--external", is_flag=True, help="Read other files that a file names, such as those of external links.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Files that are left out, such as '*_desc-*'.")
def init(sources: tuple[str, ...], units_table: str | None, external: bool, exclude: tuple[str, ...]) -> None:
    """Print a recipe with the columns of the files filled in: nwb-lint init SOURCE... > recipe.toml.

    The recipe has what differs from the defaults. Files that it does not suit are left out with a warning.
    """
    with plainly():
        from nwb_lint.nwb.inspection.suggest import suggest_for_all
        from nwb_lint.nwb.recording.averaging import find_recordings
        from nwb_lint.nwb.storage.source import is_path
        from nwb_lint.workflow.recipe import commented, make_recipe

        assets = find_recordings(list(sources), external=external, exclude=exclude)
        read, problems = suggest_for_all(assets, units_table=units_table)
        kept = [str(asset) for asset, problem in zip(assets, problems, strict=True) if not problem]
        if read.reason:
            echo(textwrap.fill(f"by: {read.reason}", 110, initial_indent="# ", subsequent_indent="# ") + "\n")
        for asset, problem in zip(assets, problems, strict=True):
            if problem:
                echo(f"warning: left out: {asset}: {with_flags(problem)}", err=True)
        files = list(sources) if len(kept) == len(assets) else kept
        resolved = [str(Path(one).expanduser().absolute()) if is_path(one) else one for one in files]
        out = f"{Path(kept[0]).stem}_desc-lowrank.nwb"
        read |= {"external": True} if external else {}
        read |= {"exclude": list(exclude)} if exclude else {}
        echo(commented(make_recipe({"sources": resolved, "out": out, "read": read})), nl=False)

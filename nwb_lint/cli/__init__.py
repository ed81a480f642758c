"""The command line: parse, call a public name, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Any

import click

from nwb_lint.cli.analyze import connectivity, fixed_points, populations, readout
from nwb_lint.cli.fit import demo, export, fit, import_
from nwb_lint.cli.inactivate import inactivate
from nwb_lint.cli.publish import publish
from nwb_lint.cli.reproduce import reproduce
from nwb_lint.cli.session import init, inspect
from nwb_lint.errors import printable


def _print_versions(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from nwb_lint.versions import show_versions

        show_versions()
        context.exit()


class Commands(click.Group):
    """Commands whose usage errors, which may quote names of files, have no control characters either."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)  # click calls the attribute final
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of what matters and exit.",
)
def app() -> None:
    """From an NWB recording to a fitted low-rank recurrent network, and back into NWB."""


_ANALYSES = (connectivity, populations, fixed_points, readout, inactivate)
for _command in (demo, inspect, init, fit, export, import_, publish, reproduce, *_ANALYSES):
    app.add_command(_command)


def main(args: list[str] | None = None, **options: Any) -> Any:
    """Entry point of ``nwb-lint``."""
    return app.main(args=args, prog_name="nwb-lint", **options)

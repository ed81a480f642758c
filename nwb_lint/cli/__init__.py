"""The command line: parse, call a public name, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from nwb_lint.cli.analyze import connectivity, currents, fixed_points, populations, readout
from nwb_lint.cli.fit import demo, export, fit, import_
from nwb_lint.cli.inactivate import inactivate
from nwb_lint.cli.publish import publish
from nwb_lint.cli.report import compare, figure, report, show
from nwb_lint.cli.reproduce import reproduce
from nwb_lint.cli.session import init, inspect
from nwb_lint.cli.shelf import shelf
from nwb_lint.cli.shell import check_log, checked, echo, keep_log, log
from nwb_lint.cli.watch import watched
from nwb_lint.errors import one_line, printable, shortened
from nwb_lint.nwb.storage.asset import without_secrets


def _print_versions(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from nwb_lint.versions import show_versions

        show_versions()
        context.exit()


class Commands(click.Group):
    """Commands of which every failure is one line without control characters, whatever is wrong."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they were given, for messages."""
        ctx.obj = [without_secrets(one) for one in args]
        if any("\0" in one for one in args):
            raise click.UsageError("An argument holds a NUL character, which no path and no name may have.", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = printable(error.message)  # click calls the attribute final
            log(f"error: {error.message}")
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            if error.filename is None or ctx.params["verbose"]:  # of the output, which click reports
                raise
            echo(f"error: {shortened(str(error.filename), 300)}: {error.strerror}. Check the path.", err=True)
            ctx.exit(1)
        except Exception as error:
            if ctx.params["verbose"]:
                raise
            command, what = f"nwb-lint {' '.join(ctx.obj)}", one_line(error)
            if isinstance(error, MemoryError):
                echo(f"error: {command} needs more memory than there is. {what}", err=True)
            else:
                what = f"{type(error).__name__}{': ' * bool(what)}{what}"
                echo(
                    f"error: {command} failed in a way that nwb_lint does not expect ({what}). See where, with "
                    "nwb-lint -v, and report it.",
                    err=True,
                )
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of what matters and exit.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show where an unexpected error arose.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes; warnings and errors stay.")
@click.option(
    "--log",
    "log_file",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=checked(check_log),
    help="Add all messages to this file, each with its time.",
)
@click.pass_context
def app(context: click.Context, verbose: bool, quiet: bool, log_file: Path | None) -> None:
    """From an NWB recording to a fitted low-rank recurrent network, and back into NWB.

    Exit status: 0 success, 1 failure, 2 wrong usage.
    """
    keep_log(context, log_file)


_ANALYSES = (connectivity, currents, populations, fixed_points, readout, inactivate)
for _command in (
    demo,
    inspect,
    init,
    fit,
    export,
    import_,
    report,
    show,
    figure,
    compare,
    publish,
    shelf,
    reproduce,
    *_ANALYSES,
):
    app.add_command(_command)
    for _option in _command.params:
        if isinstance(_option, click.Option) and _option.multiple:
            _option.help = f"{_option.help}  [may be repeated]"


def main(args: list[str] | None = None, **options: Any) -> Any:
    """Entry point of ``nwb-lint``. Without arguments, those of the process are taken, and a child process runs them."""

    def run() -> Any:
        return app.main(args=args, prog_name="nwb-lint", **options)

    if args is not None:
        return run()
    return watched(run, " ".join(["nwb-lint", *map(without_secrets, sys.argv[1:])]))

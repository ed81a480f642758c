"""What every command shares: failures as one line, and how scores, tables and files are printed."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from nwb_lint.errors import printable

_NOTES, _LOG = "nwb_lint.notes", "nwb_lint.log"
_LOG_START = "# log of nwb-lint"


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text without control characters: all that commands print goes through here."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    shown = printable(str(text)).encode(encoding, "backslashreplace").decode(encoding)
    log(shown)
    click.echo(shown, err=err, nl=nl)


def check_log(path: Path) -> None:
    """Refuse a file that is no log of nwb-lint, since its content would be damaged, and one that cannot be made."""
    from nwb_lint.errors import ContractError
    from nwb_lint.parallel.outputs import check_folder_of

    if not path.exists():
        check_folder_of(path)
    elif path.stat().st_size:
        with path.open("rb") as file:
            known = file.read(len(_LOG_START)) == _LOG_START.encode()
        if known:
            return
        raise ContractError(f"{path} exists, and it is no log of nwb-lint. Choose another path.")


def keep_log(context: click.Context, path: Path | None) -> None:
    """Add what the command prints to a file, from its first line on."""
    if path is None:
        return
    file = path.open("a", encoding="utf-8")
    context.call_on_close(file.close)
    context.meta[_LOG] = file
    if not path.stat().st_size:
        file.write(f"{_LOG_START}\n")
    log(f"nwb-lint {' '.join(context.obj or [])}")


def log(text: str) -> None:
    """Add a text to the log, where there is one; a disk that refuses does not end the work."""
    context = click.get_current_context(silent=True)
    if context is not None and (file := context.meta.get(_LOG)) is not None and text.strip():
        with suppress(OSError, ValueError):
            file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {printable(text)}\n")
            file.flush()


def quiet() -> bool:
    """Whether the user wants no progress and no notes."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def read_fit_of(path: str, name: str | None, *, save: str | None = None) -> Any:
    """A fit, and a line that says whether it is what was written. A name of a result that is taken is refused now."""
    from nwb_lint.errors import ContractError
    from nwb_lint.nwb.extension.read import find_entries, how_verified, read_fit_entry
    from nwb_lint.nwb.storage.source import reading

    entry, fit = read_fit_entry(path, name)
    if save is not None:
        with reading(path) as file:
            if any(one.name == save for one in find_entries(file)):
                raise ContractError(f"{path} has {save} already. Each needs a name of its own. Pass another name=.")
    note_at_end(f"{entry.name} of {path}: {how_verified(fit)}")
    return fit


def note_at_end(text: str) -> None:
    """Print a line on stderr when the command has succeeded: a failure is one line alone."""
    click.get_current_context().meta.setdefault(_NOTES, []).append(text)


def checked(check: Callable[[Any], None]) -> Callable[..., Any]:
    """A callback that refuses the value of a flag before the work, where the check raises a ContractError."""

    def callback(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
        from nwb_lint.errors import ContractError

        try:
            if value is not None:
                check(value)
        except ContractError as error:
            raise click.BadParameter(with_flags(error)) from None
        return value

    return callback


def can_be_saved(picture: Path) -> None:
    """Refuse the path of a picture that cannot be saved."""
    from nwb_lint.plot.style import check_picture

    check_picture(picture)


def _good_name(name: str) -> None:
    from nwb_lint.nwb.extension.write import check_name

    check_name(name)


of_fit = click.option("--name", help="Name of the fit, where the file holds several.")
with_picture = click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path),
    callback=checked(can_be_saved),
    help="Save a picture: PNG, PDF or SVG.",
)


def check_output(out: Path, source: str | None = None) -> None:
    """Refuse to write over the file that is read, whatever its name, and into a folder that takes no file."""
    from nwb_lint.errors import ContractError
    from nwb_lint.parallel.outputs import check_folder_of

    if source is not None and out.exists() and Path(source).exists() and out.samefile(source):
        raise ContractError(f"{out} is the file that is read. Choose another path.")
    check_folder_of(out)


saved_as = click.option(
    "--save",
    metavar="NAME",
    callback=checked(_good_name),
    help="Keep the result in the file, beside the fit, under this name.",
)


def new_file(path: Path) -> None:
    """Refuse the path of a file that exists, or cannot be made."""
    from nwb_lint.errors import ContractError
    from nwb_lint.parallel.outputs import check_folder_of

    if path.exists():
        raise ContractError(f"{path} exists already. Choose another path, or delete it.")
    check_folder_of(path)


def run_on(command):
    """The flags that say where work is computed, and where finished work is kept."""
    for option in (
        click.option(
            "--cache-dir", type=click.Path(path_type=Path), help="Folder of finished fits: a stopped run continues."
        ),
        click.option("--dask", metavar="ADDRESS", help="Scheduler of a running Dask cluster that computes."),
        click.option(
            "--workers", type=click.IntRange(1, 1024), default=1, help="Processes of this machine that compute."
        ),
    ):
        command = option(command)
    return command


# Arguments of Python as messages name them, and the flags that set them.
_FLAGS = (
    ("overwrite=True", "--force"),
    ("fit_name=", "--name"),
    ("another name=", "another --save"),
    ("name=", "--name"),
    (r"subject=\{'(\w+)': …\}", r"--subject \1=…"),
    (r"subject=\{'(\w+)': '([^']*)'\}", r"--subject \1=\2"),
    ("subject=", "--subject"),
)


_VALUE = r"""True\b|False\b|None\b|…|'[^']*'|"[^"]*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\[[^\]]*\]|(?!\.\.\.|[\w"'\[{(=])"""
_PAIR = rf"(?<![\w.'\"-])([a-z]\w*)=({_VALUE})"
_CALL = r"[A-Za-z_][\w.]*\([^()]*=[^()]*\)"


def with_flags(message: object) -> str:
    """A message on one line that names flags of the command in place of arguments of Python."""
    text = " ".join(str(message).split())
    for argument, flag in _FLAGS:
        text = re.sub(rf"\b{argument}(?![\w\"'\[{{])", flag, text)
    flags = _flags_here()
    return re.sub(
        f"({_CALL})|{_PAIR}",
        lambda found: _without_call(found[1], flags) if found[1] else _as_flag(found[0], found[2], found[3], flags),
        text,
    )


def _flags_here() -> dict[str, tuple[str, str]]:
    """The flag of each argument that the command has, and the flag that turns it off; outside of a command, of all."""
    from nwb_lint.cli.flags import flag_of
    from nwb_lint.options.reference import PUBLIC

    context = click.get_current_context(silent=True)
    if context is None:
        flags = {name: flag_of(name) for one in PUBLIC for name in one.model_fields}
        return {name: (flag, flag.replace("--", "--no-", 1)) for name, flag in flags.items()}
    found: dict[str, tuple[str, str]] = {}
    for one in sorted(context.command.params, key=lambda one: -len(one.opts[-1])):  # the shortest of a name stays
        if isinstance(one, click.Option) and one.name:
            negative = one.secondary_opts[0] if one.secondary_opts else f"{one.opts[-1]} no"
            found[one.name.rpartition("__")[2]] = (one.opts[-1], negative)
    return found


def _without_call(call: str, flags: dict[str, tuple[str, str]]) -> str:
    """The flags in place of a call of which they are all: f(..., x=1). Any other call stays."""
    arguments = re.fullmatch(r"[\w.]+\((?:\.\.\.|…), (.*)\)", call)
    pairs = [re.fullmatch(_PAIR, one) for one in arguments[1].split(", ")] if arguments else []
    if not pairs or not all(pair and pair[1] in flags for pair in pairs):
        return call
    return " ".join(_as_flag(pair[0], pair[1], pair[2], flags) for pair in pairs if pair)


def _as_flag(argument: str, name: str, value: str, flags: dict[str, tuple[str, str]]) -> str:
    """The flag of an argument with its value, as a shell takes it; any other text stays."""
    if name not in flags:
        return argument
    flag, negative = flags[name]
    if value in ("True", "False"):
        return flag if value == "True" else negative
    if value in ("", "…"):
        return f"{flag} {value}".rstrip()
    try:
        given = ast.literal_eval(value)
    except (SyntaxError, ValueError):  # a list that is abridged
        return argument
    values = given if isinstance(given, list) else [given]
    if all(isinstance(one, str) for one in values):  # a flag that takes several texts is repeated
        return " ".join(f"{flag} {one if one == '…' else shlex.quote(one)}" for one in values) or argument
    if any(isinstance(one, dict | list | tuple) for one in values):
        return argument
    return f"{flag} {','.join('none' if one is None else str(one) for one in values)}"


@contextmanager
def plainly():
    """Failures of the work as one line and exit status 1, warnings as one line each."""
    from nwb_lint.errors import ContractError, NWBError, WorkerError

    shown: set[str] = set()

    def tell(message, category, filename, lineno, file=None, line=None) -> None:
        text = f"warning: {with_flags(message)}"
        if text not in shown:
            shown.add(text)
            echo(text, err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = tell
        try:
            yield
        except (ContractError, NWBError, WorkerError, OSError) as error:
            echo(f"error: {with_flags(error)}", err=True)
            sys.exit(1)
    for text in () if quiet() else click.get_current_context().meta.get(_NOTES, ()):
        echo(text, err=True)


def parse_pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dict."""
    for text in given:
        if "=" not in text:
            raise click.UsageError(f"{option} is {text!r}; it needs KEY=VALUE, e.g. age=P90D.")
    return dict(text.split("=", 1) for text in given)


with_json = click.option("--json", "as_json", is_flag=True, help="JSON for machines, in place of the tables.")


def print_items(items: Any) -> None:
    """Sentences and tables, as they also stand in a report."""
    from nwb_lint.reports.items import as_text

    if text := as_text(items):
        echo(text)


def print_result(result: Any, items: Any, as_json: bool) -> None:
    """The tables of a result, or all its numbers as JSON."""
    if not as_json:
        print_items(items)
        return
    from nwb_lint.reports.items import as_json as text_of

    echo(text_of(result))


_OF_SCORES = {"split", "stage", "rank_tried", "input"}  # dims of what `fit --json` prints of a fit


def print_scores(fit, tables: dict[str, Any], as_json: bool = False) -> None:
    """The size of a fit, the tables beside it, and its scores, each with its split and its ceiling."""
    if as_json:
        from nwb_lint.reports.items import as_json as text_of

        scores = fit[[name for name in fit.data_vars if set(fit[name].dims) <= _OF_SCORES]].reset_coords(drop=True)
        parts = [f'"{name}": {text_of(one)}' for name, one in ({"fit": scores} | tables).items()]
        echo("{" + ", ".join(parts) + "}")
        return
    from nwb_lint.reports.reading import sentence_of
    from nwb_lint.reports.scores import of_fit, of_table

    print_items([sentence_of(fit), *(item for table in tables.values() for item in of_table(table)), *of_fit(fit)])


def print_reading(activity, inputs: Sequence[Any]) -> None:
    """Trials and units of all, inputs that nobody named, and of several files those that gave less than they have."""
    from nwb_lint.nwb.recording.dataset import format_assets, format_reading

    echo(format_reading(activity))
    if inputs:
        start = f"from time 0 ({activity.attrs['align']}) on" if inputs[0].window_s else "at all times"
        echo(f"inputs: {', '.join(one.name for one in inputs)}, {start} (others: --input, or [[inputs]] of a recipe)")
    echo()
    if len(activity.attrs["assets"]) > 1:
        echo(format_assets(activity, all_files=False) + "\n")


def print_seconds(seconds: dict[str, float]) -> None:
    echo("\nseconds")
    for stage, value in seconds.items():
        echo(f"  {stage:<14s} {value:6.2f}")


def print_files(files: list[Path], *, err: bool = False) -> None:
    if files:
        echo("\nwritten: " + ", ".join(str(path) for path in files), err=err)


def keep_result(result, path: str, fit: str | None, save: str | None) -> None:
    """Write a result beside its fit, where a name was given."""
    if save is not None:
        from nwb_lint.nwb.extension.write import write_result

        write_result(result, path, fit_name=fit, name=save)
        echo(f"written: {save} in {path}", err=True)


def save_picture(ax, picture: Path) -> None:
    """Save the figure of some axes; a disk that refuses is a warning, since the result is printed."""
    from nwb_lint.plot.style import save_figure

    try:
        save_figure(ax.figure, picture, 150)
    except OSError as error:
        warnings.warn(f"There is no picture: {picture} cannot be written ({error.strerror}).", stacklevel=1)
        return
    echo(f"written: {picture}", err=True)

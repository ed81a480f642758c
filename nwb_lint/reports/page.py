"""A report as one HTML page that needs no other file and no connection."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from itertools import count
from os import PathLike
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nwb_lint.errors import printable
from nwb_lint.plot.style import check_own, replace_file, to_svg
from nwb_lint.reports.items import Code, Picture, Section, Table, columns_of_numbers
from nwb_lint.versions import versions

_MARK = b'<meta name="generator" content="nwb_lint'


def check_page(path: str | PathLike[str]) -> None:
    """Check that a page can be saved under a path.

    Raises
    ------
    ContractError
        If the ending is not .html, the folder does not exist, or there is a file that is no report of nwb_lint.
    """
    check_own(path, (".html",), _MARK, "report")


def save_page(page: str, path: str | PathLike[str]) -> Path:
    """Write a page; a report of nwb_lint is replaced, any other file is not: see `check_page`."""
    check_page(path)
    replace_file(Path(path), page.encode())
    return Path(path)


def to_page(title: str, sections: Sequence[Section], *, interactive: bool = False) -> str:
    """The HTML of a report. Some figures of an ``interactive`` one can be zoomed and turned, by plotly."""
    script, div = "", None
    if interactive:
        from nwb_lint.plot.interactive import script as script_of
        from nwb_lint.plot.interactive import to_div

        script, number = script_of(), count(1)

        def div(picture: Picture) -> str:
            return to_div(picture.interactive(), f"figure-{next(number)}") if picture.interactive else ""

    how = {"version": versions()["nwb_lint"], "script": script, "div": div}
    return _template().render(title=title, sections=sections, **how)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("nwb_lint.reports", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.globals |= {"svg": _svg, "columns_of_numbers": columns_of_numbers}
    environment.tests |= {
        "table": lambda item: isinstance(item, Table),
        "code": lambda item: isinstance(item, Code),
        "picture": lambda item: isinstance(item, Picture),
    }
    return environment.get_template("page.html")


def _shown(value: object) -> object:
    """A text of the template without control characters: names come from files."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _svg(picture: Picture) -> str:
    """A figure as the address of an SVG image that holds itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(to_svg(picture.draw())).decode()

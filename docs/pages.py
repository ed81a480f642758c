"""What the documentation site makes from other files before it is built: tutorials, messages, a stand-in for DANDI."""

from __future__ import annotations

import ast
import gc
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nwb_lint.contract.datasets import ACTIVITY, COORDS, FIT, RECORDING, TRIALS
from nwb_lint.contract.results import RESULTS
from tests.nwb.archive import stand_in

ROOT = Path(__file__).parents[1]
ERRORS = ("ContractError", "NWBError", "MissingFileError", "WorkerError")
# Files of the root that have a page here, with the name of the page.
OF_THE_ROOT = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "CODE_OF_CONDUCT.md": "conduct.md"}


def make(source: Path) -> None:
    """Write what is made into the folder of the site, where git does not see it; files that are current stay."""
    for path in sorted((ROOT / "tutorials").glob("*.py")):
        write(source / "tutorials" / path.name, path.read_text(encoding="utf-8"))
    for name, page in OF_THE_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](../")
        for other, its_page in OF_THE_ROOT.items():
            text = text.replace(f"]({other})", f"]({its_page})")
        write(source / "project" / page, text)
    write(source / "_made" / "messages.md", messages(ROOT / "nwb_lint"))
    write(source / "_made" / "datasets.md", datasets())


def start_archive(app) -> None:
    """A DANDI archive on this machine for the tutorial that reads from DANDI, until the build ends."""
    folder = tempfile.TemporaryDirectory()
    archive = stand_in(Path(folder.name)).__enter__()
    gc.enable()  # the archive turned it off, for readers of the same process; here others read
    os.environ |= {
        "DANDI_INSTANCE": f"{archive.api.url}/api", "DANDI_NO_ET": "1", "NWB_LINT_CACHE": f"{folder.name}/cache",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
    }  # fmt: skip

    def stop(app, exception) -> None:
        archive.__exit__()
        folder.cleanup()

    app.connect("build-finished", stop)


def write(path: Path, text: str) -> None:
    """Write a text, where it is not there already: Sphinx reads pages again whose time changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def datasets() -> str:
    """A table of variables for each Dataset, as Markdown."""
    tables = {"recording": RECORDING, "trials": TRIALS, "activity": ACTIVITY, "fit": FIT, "coords": COORDS}
    tables |= {f"result: {kind}": table for kind, table in RESULTS.items()}
    parts = []
    for name, table in tables.items():
        rows = "".join(
            f"| `{one}` | {', '.join(var.dims)} | {var.dtype} | {var.unit} | {'yes' if var.required else ''} |\n"
            for one, var in table.items()
        )
        head = "\n| variable | dims | dtype | unit | always there |\n|---|---|---|---|---|\n"
        parts.append(f"\n## {'coordinates' if name == 'coords' else name}\n{head}{rows}")
    return "".join(parts)


def messages(package: Path) -> str:
    """The messages of all errors, by module, as Markdown: values that are filled in are an ellipsis."""
    parts = []
    for path in sorted(package.rglob("*.py")):
        found = sorted(set(raised(path)))
        if found:
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            rows = "".join(f"| {kind} | {cell(text)} |\n" for kind, text in found)
            parts.append(f"\n### {name}\n\n| error | message |\n|---|---|\n{rows}")
    return "".join(parts)


def raised(path: Path) -> Iterator[tuple[str, str]]:
    """Class and message of every error of ours that a module raises with a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            kind, text = ast.unparse(node.exc.func), text_of(node.exc.args[0])
            if kind in ERRORS and text.strip(" …"):
                yield kind, text


def text_of(node: ast.expr) -> str:
    """A text of the source, with an ellipsis for each value that is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "…"


def cell(text: str) -> str:
    """A text as a cell of a table that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|$#])", r"\\\1", " ".join(text.split()))


def lead_into_the_site(app, docname: str, source: list[str]) -> None:
    """Links to files of the root that have a page here lead to the page."""
    up = "../" * docname.count("/")
    for name, page in OF_THE_ROOT.items():
        source[0] = source[0].replace(f"]({up}../{name})", f"]({up}project/{page})")

"""Imports point one way, the public names stay, and importing the package costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nwb_lint

ROOT = Path(nwb_lint.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PUBLIC = {
    "Input", "add_to_nwbfile", "audit", "baselines", "canonicalise", "compare_axes", "connectivity", "ensemble",
    "find_populations", "fit_lint", "fit_readout", "fixed_points", "flow_field", "latents", "open_nwb",
    "predict_inactivation", "prepare", "project", "read_conditions", "read_fit", "read_result", "read_trials",
    "resample_network", "score", "select_rank", "simulate", "truncate", "weight_statistics", "write_fit",
    "write_result",
}  # fmt: skip
HEAVY = {"torch", "dandi", "matplotlib", "pynwb", "h5py", "distributed"}

# Which rooms of the package each room may import from; a room may always import from itself.
ALLOWED = {
    "contract": set(),
    "digests": set(),
    "prepare": {"contract", "digests", "inputs"},
    "inputs": {"contract"},
    "results": {"contract"},
    "query": {"contract"},  # beside nwb, since analysis chooses neurons by the same queries
    "nwb": {"contract", "digests", "query", "results", "schemas"},
    "model": {"contract", "prepare", "inputs", "results"},
    "analysis": {"contract", "prepare", "inputs", "model", "query", "results"},
    "tasks": {"contract", "model", "nwb"},
    "experiments": {
        "analysis",
        "contract",
        "inputs",
        "model",
        "nwb",
        "pipeline",
        "plot",
        "prepare",
        "recipe",
        "results",
        "tasks",
    },  # recordings (fig5) go the way of a user's recipe
    "plot": {"analysis", "contract", "prepare", "results"},  # prepare: windows of time are checked in one place
    "testing": {"contract", "inputs", "model", "nwb", "prepare"},
    "recipe": {"contract", "inputs", "nwb"},
    "pipeline": {"contract", "digests", "inputs", "model", "nwb", "prepare", "recipe"},
    "demo": {"analysis", "contract", "nwb", "pipeline", "plot", "recipe", "tasks"},
    "schemas": set(),
}
# External packages that only these rooms may import.
ONLY = {
    "pynwb": {"nwb"}, "h5py": {"nwb"}, "hdmf": {"nwb"}, "dandi": {"nwb"}, "remfile": {"nwb"},
    "requests": {"nwb"}, "fsspec": {"nwb"}, "zarr": {"nwb.zarr"}, "lindi": {"nwb.lindi"},
    "torch": {"model._torch", "model._adam", "tasks._torch"}, "matplotlib": {"plot"}, "distributed": {"model.sweep"},
    "mpl_toolkits": {"plot"},
}  # fmt: skip


def name_of(path: Path) -> str:
    """Dotted name inside the package: model/_torch.py → model._torch; __init__.py → its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> set[str]:
    """Absolute dotted names of every import statement in a file, at any depth, relative ones resolved."""
    package = ["nwb_lint", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found.add(origin)
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


def room_of(dotted: str) -> str:
    """The room of an absolute name inside the package: nwb_lint.model.fit → model."""
    return [*dotted.split("."), ""][1]


def belongs(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    name = name_of(path)
    room = name.split(".")[0]
    if room in ("", "cli"):  # the public names; the thin layer on top of everything
        return
    inside = {room_of(i) for i in imports_of(path) if belongs(i, "nwb_lint")} - {"", "__version__", room}
    assert room in ALLOWED, f"{name}: say in ALLOWED what the room {room} may import"
    assert inside <= ALLOWED[room], f"{name} imports from {sorted(inside - ALLOWED[room])}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_external_packages_stay_in_their_rooms(path):
    name = name_of(path)
    for imported in imports_of(path):
        rooms = ONLY.get(imported.split(".")[0])
        assert rooms is None or any(belongs(name, room) for room in rooms), f"{name} imports {imported}"


def test_torch_room_knows_neither_xarray_nor_the_contract():
    known = {i for i in imports_of(ROOT / "model" / "_torch.py") if i.startswith(("xarray", "nwb_lint.contract"))}
    assert not known


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_rules_see_what_they_should(tmp_path, monkeypatch):
    """The reader of imports finds those inside functions, relative ones, and names taken from packages."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "nwb").mkdir()
    path = tmp_path / "nwb" / "x.py"
    lines = ["import torch.nn as t", "def f():", "    from ..model import fit", "from . import read"]
    path.write_text("\n".join([*lines, "from nwb_lint import plot"]))
    found = imports_of(path)
    assert {"torch.nn", "nwb_lint.model", "nwb_lint.model.fit", "nwb_lint.nwb.read", "nwb_lint.plot"} <= found
    assert {room_of(i) for i in found if belongs(i, "nwb_lint")} == {"", "model", "nwb", "plot"}


def test_public_names_are_frozen_and_there():
    assert set(nwb_lint.__all__) == PUBLIC
    for name in PUBLIC:
        assert callable(getattr(nwb_lint, name)), name


def cheap(statement: str) -> tuple[float, set[str]]:
    """Best of three processes: seconds that a statement takes, and which heavy packages it loads."""
    code = (
        "import sys, time, io, contextlib\nstart = time.perf_counter()\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    {statement}\n"
        f"print(time.perf_counter() - start, *({HEAVY!r} & sys.modules.keys()))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(3)
    ]
    return min(float(run[0]) for run in runs), {name for run in runs for name in run[1:]}


@pytest.mark.parametrize(
    "statement",
    ["import nwb_lint", "from nwb_lint import cli; cli.main(['--help'], standalone_mode=False)"],
    ids=["import", "help"],
)
def test_import_and_help_are_cheap(statement):
    seconds, loaded = cheap(statement)
    assert not loaded
    assert seconds < 1

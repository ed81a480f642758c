"""Imports point one way, the public names stay, and importing the package costs little."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nwb_lint

ROOT = Path(nwb_lint.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PUBLIC = {
    "Input",
    "LowRankDecoder",
    "LowRankEncoder",
    "Readout",
    "add_to_nwbfile",
    "align_fits",
    "audit",
    "baselines",
    "bits_per_spike",
    "bootstrap",
    "canonicalize",
    "chosen_areas",
    "compare",
    "compare_axes",
    "compare_drift",
    "compare_dynamics",
    "compare_inputs",
    "compare_links",
    "compare_readouts",
    "compare_tau",
    "connectivity",
    "currents",
    "decode_behavior",
    "distill",
    "ensemble",
    "find_populations",
    "fit_lint",
    "fit_readout",
    "fit_trials",
    "fixed_points",
    "flow_field",
    "forecast",
    "from_arrays",
    "from_network",
    "from_nwbfile",
    "from_pynapple",
    "from_spikeinterface",
    "from_spikes",
    "infer_inputs",
    "infer_latents",
    "latents",
    "limit_cycles",
    "network_of_trial",
    "networks_of_draws",
    "open_nwb",
    "predict_inactivation",
    "predict_rates",
    "prepare",
    "project",
    "read",
    "read_conditions",
    "read_fit",
    "read_result",
    "read_results",
    "read_trials",
    "refine_free_run",
    "report",
    "resample_network",
    "run_module",
    "score",
    "select_areas",
    "select_rank",
    "show_versions",
    "simulate",
    "to_datatree",
    "to_pandas",
    "to_pynapple",
    "truncate",
    "weight_statistics",
    "with_inferred_inputs",
    "write_fit",
    "write_result",
    "write_session",
}
HEAVY = {"torch", "dandi", "matplotlib", "pynwb", "h5py", "distributed"}

# The line of the package: a room imports from rooms before it, and from itself. `nwb` is off the line: it imports the
# pure steps, and neither fits nor analyses, nor do these import it.
BASE = ["errors", "versions", "contract", "options", "parallel"]
PURE = ["query", "inputs", "trial_noise", "drift", "rate_link", "behavior", "prepare"]
LINE = ["model", "statespace", "validation", "analysis", "plot"]
USERS = ["reports", "estimators", "tasks", "testing", "workflow", "experiments", "cli"]
# Inside these rooms, the same line once more: of the folders or modules of a room.
INSIDE = {
    "nwb": ["storage", "recording", "inspection", "convert", "extension"],
    "contract": ["values", "datasets", "results", "columns", "checks"],
    "options": [
        "words", "base", "read_and_prepare", "fits", "single_trials", "validation", "analyses", "trained_networks",
        "reports", "recipe_sections", "checks", "reference",
    ],
}  # fmt: skip


def allowed(room: str) -> set[str]:
    """The rooms that a room may import from."""
    if room in BASE:
        return set(BASE[: BASE.index(room)])
    if room in PURE:
        return {*BASE, *PURE[: PURE.index(room)]}
    if room == "nwb":
        return {*BASE, *PURE, "schemas"}
    if room in LINE:
        return {*BASE, *PURE, *LINE[: LINE.index(room)]}
    return {*BASE, *PURE, "nwb", *LINE, *USERS[: USERS.index(room)]}


# External packages that only these rooms may import.
ONLY = {
    "pynwb": {"nwb"}, "h5py": {"nwb"}, "hdmf": {"nwb"}, "dandi": {"nwb"},
    "requests": {"nwb"}, "zarr": {"nwb.storage.zarr"}, "lindi": {"nwb.storage.zarr"},
    "torch": {"parallel._torch", "model._torch", "statespace._torch", "tasks._torch"},
    "matplotlib": {"plot"}, "distributed": {"parallel"},
    "mpl_toolkits": {"plot"}, "plotly": {"plot.interactive"},
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
    assert inside <= allowed(room), f"{name} imports from {sorted(inside - allowed(room))}"


@pytest.mark.parametrize("path", [one for room in INSIDE for one in sorted((ROOT / room).rglob("*.py"))], ids=name_of)
def test_imports_inside_a_room_point_one_way(path):
    room, part, *_ = [*name_of(path).split("."), ""]
    inside = {i.split(".")[2] for i in imports_of(path) if belongs(i, f"nwb_lint.{room}") and i.count(".") > 1} - {part}
    before = set(INSIDE[room][: INSIDE[room].index(part)]) if part else set()
    assert inside <= before, f"{name_of(path)} imports from {sorted(inside - before)}"


def test_no_circle_of_imports():
    """Modules import each other in one direction only, imports inside functions included."""
    names = {name_of(path): path for path in MODULES}
    graph = {
        name: {i.removeprefix("nwb_lint.") for i in imports_of(path)} & (names.keys() - {name})
        for name, path in names.items()
    }
    list(TopologicalSorter(graph).static_order())


FUNCTION_LINES, FOLDER_FILES = 50, 15


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path):
    long = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            signature = node.body[0].lineno - node.lineno
            lines = node.end_lineno - node.lineno + 1 - doc - signature
            if lines > FUNCTION_LINES:
                long.append(f"{node.name} ({lines} lines)")
    assert not long


def test_folders_are_small():
    folders = {path.parent for path in MODULES}
    assert not {folder: n for folder in folders if (n := len(list(folder.glob("*.py")))) > FOLDER_FILES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_external_packages_stay_in_their_rooms(path):
    name = name_of(path)
    for imported in imports_of(path):
        rooms = ONLY.get(imported.split(".")[0])
        assert rooms is None or any(belongs(name, room) for room in rooms), f"{name} imports {imported}"


def test_torch_room_knows_neither_xarray_nor_the_contract():
    known = {i for i in imports_of(ROOT / "model" / "_torch.py") if i.startswith(("xarray", "nwb_lint.contract"))}
    assert not known


def test_the_rules_see_what_they_should(tmp_path, monkeypatch):
    """The reader of imports finds those inside functions, relative ones, and names taken from packages."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "nwb").mkdir()
    path = tmp_path / "nwb" / "x.py"
    lines = ["import torch.nn as t", "def f():", "    from ..model import fit", "from .recording import read"]
    path.write_text("\n".join([*lines, "from nwb_lint import plot"]))
    found = imports_of(path)
    assert {"torch.nn", "nwb_lint.model", "nwb_lint.model.fit", "nwb_lint.nwb.recording.read", "nwb_lint.plot"} <= found
    assert {room_of(i) for i in found if belongs(i, "nwb_lint")} == {"", "model", "nwb", "plot"}


def test_public_names_are_frozen_and_there():
    assert set(nwb_lint.__all__) == PUBLIC | {"errors", "plot"}
    for name in PUBLIC:
        assert callable(getattr(nwb_lint, name)), name


def cheap(statement: str) -> tuple[float, set[str]]:
    """Best of three processes: seconds of CPU that a statement takes, and which heavy packages it loads."""
    code = (
        "import sys, time, io, contextlib\nstart = time.process_time()\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    {statement}\n"
        f"print(time.process_time() - start, *({HEAVY!r} & sys.modules.keys()))"
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

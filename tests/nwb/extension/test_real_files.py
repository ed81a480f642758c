"""Fits of real recordings, written and held to every validator: pynwb, and the commands dandi and nwbinspector."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pynwb
import pytest
import xarray as xr

from nwb_lint.nwb.extension.publish import dandi_path
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.workflow.recipe import load_recipe
from nwb_lint.workflow.run import run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("offline_dandi")]
EXAMPLES = Path(__file__).parents[3] / "examples"
# the recording of alm000009 says no age, which its owner would have to say; this one stands for any
SUBJECT = {"alm000009": {"age": "P90D"}, "mante2013": None}


def fit_of(name, folder):
    """The recipe's fit to local copies of its files, rank 1 in closed form."""
    recipe = load_recipe(EXAMPLES / f"{name}.toml").model_copy(update={"sources": [str(folder / name / "*.nwb")]})
    parts = {
        "fit": recipe.fit.model_copy(update={"method": "regression", "hidden": 0}),
        "select": recipe.select.model_copy(update={"ranks": (1,)}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the reader tells of the files
        return run_recipe(recipe.model_copy(update=parts)).fit


def command(name, *args):
    """Exit status and output of a command, run as its script runs it."""
    script = f"from importlib.metadata import entry_points as e; e(group='console_scripts', name='{name}')['{name}']"
    ran = subprocess.run([sys.executable, "-c", f"{script}.load()()", *map(str, args)], capture_output=True, text=True)
    return ran.returncode, ran.stdout


def dandiset(root):
    """A folder that dandi takes for a dandiset."""
    root.mkdir()
    (root / "dandiset.yaml").write_text("identifier: DANDI:000009\nname: a\ndescription: b\n")
    return root


def at_its_place(path, root):
    """The file where a dandiset has it."""
    place = root / dandi_path(path)
    place.parent.mkdir(exist_ok=True)
    return path.rename(place)


class Written(NamedTuple):
    """The fit of a recording, a file of it alone, its copy of the recording, and the recording."""

    fit: xr.Dataset
    alone: Path
    copy: Path
    recording: Path


@pytest.fixture(scope="module")
def written(shared_data, tmp_path_factory):
    """Every file that is looked at, by the name of its recipe: the validators start once for all."""
    folder, found = tmp_path_factory.mktemp("real"), {}
    alone, copies = dandiset(folder / "alone"), dandiset(folder / "copies")
    (folder / "recordings").mkdir()
    for name, subject in SUBJECT.items():
        fit = fit_of(name, shared_data)
        source = Path(fit["file"].values[0])
        recording = folder / "recordings" / f"{name}.nwb"
        recording.write_bytes(source.read_bytes())
        found[name] = Written(
            fit,
            at_its_place(write_fit(fit, folder / f"{name}.nwb", subject=subject), alone),
            at_its_place(write_fit(fit, folder / f"{name}_copy.nwb", into=source), copies),
            recording,
        )
    return found


@pytest.fixture(scope="module")
def inspected(written, tmp_path_factory):
    """(importance, check, message) of all that nwbinspector finds in each file."""
    folder = next(iter(written.values())).recording.parents[1]
    out = tmp_path_factory.mktemp("inspected") / "found.json"
    status, text = command("nwbinspector", folder, "--overwrite", "--json-file-path", out)
    assert status == 0, text
    found = defaultdict(set)
    for one in json.loads(out.read_text())["messages"]:
        message = f"{one['location']} {one['message']}"
        found[Path(one["file_path"]).resolve()].add((one["importance"], one["check_function_name"], message))
    return lambda path: found[path.resolve()]


@pytest.fixture(scope="module")
def validated(written, tmp_path_factory):
    """What dandi finds in each file, without hints."""
    out = tmp_path_factory.mktemp("validated") / "found.jsonl"
    paths = [path for one in written.values() for path in (one.alone, one.copy)]
    command("dandi", "validate", "--format", "json_lines", "--output", out, *paths)
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert {Path(one["path"]).resolve() for one in results} <= {path.resolve() for path in paths}
    return lambda path: [one for one in results if Path(one["path"]).resolve() == path.resolve()]


@pytest.mark.parametrize("name", SUBJECT)
def test_derived_files_of_real_recordings_pass_every_validator(name, written, inspected, capsys):
    fit, path = written[name].fit, written[name].alone
    xr.testing.assert_identical(fit, read_fit(path))
    assert pynwb.validate(path=str(path)) == []
    found = inspected(path)
    assert {importance for importance, _, _ in found} <= {"BEST_PRACTICE_SUGGESTION"}
    with capsys.disabled():
        print(f"\n{path.name}, {path.stat().st_size} bytes")
        print("\n".join(f"  {check}: {text}" for _, check, text in sorted(found)))
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        table = io.read().processing["ecephys"]["lowrank_fit"].neurons
        for column in ("unit_id", "session", "source"):
            assert list(table[column][:]) == fit[column].values.tolist()


@pytest.mark.parametrize("name", SUBJECT)
def test_dandi_finds_no_fault_in_derived_files(name, written, validated):
    assert validated(written[name].alone) == []


@pytest.mark.parametrize("name", SUBJECT)
def test_copies_of_real_recordings_have_no_faults_but_their_own(name, written, inspected, validated):
    fit, _, path, recording = written[name]
    xr.testing.assert_identical(fit, read_fit(path))
    own, found = inspected(recording), inspected(path)
    assert not [text for _, _, text in found if "lowrank" in text]
    # a recording of an older NWB is held to its own schema, a copy to the one that its fit is written in
    by_schema = {one for one in found - own if one[0] == "PYNWB_VALIDATION"}
    assert found - own == by_schema
    errors = [one["id"] for one in validated(path) if one["severity"] not in ("INFO", "HINT", "WARNING")]
    if name == "mante2013":
        assert not by_schema
        assert errors == []
    else:  # the reasons are the recording's: signed indices without description, and no age
        assert len(by_schema) == 6
        assert all("units/spike_times_index" in one[2] or "units/electrodes_index" in one[2] for one in by_schema)
        assert any("check_subject_age" in one for one in errors)

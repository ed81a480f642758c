"""Fits of real recordings, written and held to every validator: pynwb, and the commands dandi and nwbinspector."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

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
    part = recipe.fit.model_copy(update={"ranks": [1], "method": "regression", "hidden": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the reader tells of the files
        return run_recipe(recipe.model_copy(update={"fit": part})).fit


def command(name, *args):
    """Exit status and output of a command, run as its script runs it."""
    script = f"from importlib.metadata import entry_points as e; e(group='console_scripts', name='{name}')['{name}']"
    ran = subprocess.run([sys.executable, "-c", f"{script}.load()()", *args], capture_output=True, text=True)
    return ran.returncode, ran.stdout


def found_by_inspector(path):
    """(importance, check, message) of all that nwbinspector finds."""
    out = path.parent / "found.json"
    status, text = command("nwbinspector", str(path), "--overwrite", "--json-file-path", str(out))
    assert status == 0, text
    messages = json.loads(out.read_text())["messages"]
    return {(m["importance"], m["check_function_name"], f"{m['location']} {m['message']}") for m in messages}


def at_its_place(path, root):
    """The file where a dandiset has it."""
    (root / "dandiset.yaml").write_text("identifier: DANDI:000009\nname: a\ndescription: b\n")
    place = root / dandi_path(path)
    place.parent.mkdir()
    return path.rename(place)


@pytest.mark.parametrize("name", ["alm000009", "mante2013"])
def test_derived_files_of_real_recordings_pass_every_validator(name, shared_data, tmp_path, capsys):
    fit = fit_of(name, shared_data)
    path = at_its_place(write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT[name]), tmp_path)
    xr.testing.assert_identical(fit, read_fit(path))
    assert pynwb.validate(path=str(path)) == []
    status, output = command("dandi", "validate", str(path))
    assert (status, output.strip()) == (0, "No errors found.")
    found = found_by_inspector(path)
    assert {importance for importance, _, _ in found} <= {"BEST_PRACTICE_SUGGESTION"}
    with capsys.disabled():
        print(f"\n{path.name}, {path.stat().st_size} bytes; dandi validate: {output.strip()}")
        print("\n".join(f"  {check}: {text}" for _, check, text in sorted(found)))
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        table = io.read().processing["ecephys"]["lowrank_fit"].neurons
        for column in ("unit_id", "session", "source"):
            assert list(table[column][:]) == fit[column].values.tolist()


@pytest.mark.parametrize("name", ["alm000009", "mante2013"])
def test_copies_of_real_recordings_have_no_faults_but_their_own(name, shared_data, tmp_path):
    fit = fit_of(name, shared_data)
    source = Path(fit["file"].values[0])
    path = at_its_place(write_fit(fit, tmp_path / "fit.nwb", into=source), tmp_path)
    xr.testing.assert_identical(fit, read_fit(path))
    recording = tmp_path / "recording.nwb"
    recording.write_bytes(source.read_bytes())
    own, found = found_by_inspector(recording), found_by_inspector(path)
    assert not [text for _, _, text in found if "lowrank" in text]
    # a recording of an older NWB is held to its own schema, a copy to the one that its fit is written in
    by_schema = {one for one in found - own if one[0] == "PYNWB_VALIDATION"}
    assert found - own == by_schema
    status, output = command("dandi", "validate", "--min-severity", "ERROR", str(path))
    if name == "mante2013":
        assert not by_schema
        assert (status, output.strip()) == (0, "No errors found.")
    else:  # the reasons are the recording's: signed indices without description, and no age
        assert len(by_schema) == 6
        assert all("units/spike_times_index" in one[2] or "units/electrodes_index" in one[2] for one in by_schema)
        assert status == 1
        assert "check_subject_age" in output

"""Fits of real recordings, written and held to every validator: pynwb, dandi, nwbinspector."""

from __future__ import annotations

import warnings
from pathlib import Path

import pynwb
import pytest
import xarray as xr

from nwb_lint.nwb import publish
from nwb_lint.nwb.fitfile import read_fit
from nwb_lint.nwb.write import write_fit
from nwb_lint.pipeline import run_recipe
from nwb_lint.recipe import load_recipe

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


def written(name, folder):
    """The recipe's fit in closed form, as a derived file and, of one recording, as a copy of it."""
    recipe = load_recipe(EXAMPLES / f"{name}.toml")
    part = recipe.fit.model_copy(update={"ranks": [1], "method": "regression", "hidden": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the reader tells of the files
        fit = run_recipe(recipe.model_copy(update={"fit": part})).fit
    # the recording of alm000009 says no age, which the archive needs: its owner would have to say it
    files = [write_fit(fit, folder / "fit.nwb", subject={"age": "P0D/"} if name == "alm000009" else None)]
    sources = list(dict.fromkeys(fit["file"].values.tolist()))
    if len(sources) == 1:
        files.append(write_fit(fit, folder / "copy.nwb", into=sources[0]))
    return fit, files


@pytest.mark.parametrize("name", ["alm000009", "mante2013"])
def test_files_of_real_recordings_pass_every_validator(name, shared_data, tmp_path, capsys):
    fit, files = written(name, tmp_path)
    for path in files:
        xr.testing.assert_identical(fit, read_fit(path))
        ours = [str(problem) for problem in pynwb.validate(path=str(path)) if "processing" in str(problem)]
        assert ours == []
        if path.name == "copy.nwb":  # the recording itself is of 2017 and has its own problems
            continue
        assert pynwb.validate(path=str(path)) == []
        told = publish.publish(path, "000000", dry_run=True)
        with capsys.disabled():
            print(f"\n{path.name}: {path.stat().st_size} bytes, {told.address}")
            print("\n".join(f"  {line}" for line in told.told))

    with pynwb.NWBHDF5IO(str(files[0]), "r") as io:
        table = io.read().processing["ecephys"]["lowrank_fit"].neurons
        for column in ("unit_id", "session", "source"):
            assert list(table[column][:]) == fit[column].values.tolist()

"""A folder of published networks becomes a folder of NWB files, each with its source."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.cli import app, main
from nwb_lint.errors import NWBError
from nwb_lint.tasks.shelf import PUBLISHED, make_shelf

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
TEACHERS = Path(__file__).parents[3] / "shared/data/teachers"


def paper(n_neurons=12, rank=1, n_inputs=2):
    shapes = {"wi": (n_inputs, n_neurons), "m": (n_neurons, rank), "n": (n_neurons, rank)}
    return {name: torch.as_tensor(RNG.normal(size=shape)) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path):
    """Files as they lie in the authors' repositories, and some that are no networks."""
    models = tmp_path / "repository" / "models"
    models.mkdir(parents=True)
    torch.save(paper(rank=3), models / "mante_monkeyA_subspace_rank3_22.pt")
    torch.save(paper(), models / "rdm_rank1_512.pt")
    torch.save(paper(), models / "mine.pt")
    arrays = {name: value.numpy() for name, value in paper(n_inputs=1).items()}
    arrays["input_weights"] = arrays.pop("wi").T
    np.savez(models / "dm.npz", **arrays, **{f"published_fit_{key}": 2 * one for key, one in arrays.items()})
    (models / "broken.pt").write_bytes(b"no weights")
    (models / "osc_rnn_params.pkl").write_bytes(pickle.dumps({"dt": 10}))
    (models / "README.md").touch()
    return tmp_path / "repository"


def test_every_network_gets_a_file_that_names_its_source(folder, tmp_path):
    placed = {one.source: one for one in make_shelf(folder, tmp_path / "shelf")}
    monkey = placed["models/mante_monkeyA_subspace_rank3_22.pt"]
    fit = nl.read_fit(monkey.path)
    assert monkey.sizes == "12 neurons, rank 3"
    assert (fit.attrs["dt_s"], fit.attrs["tau_s"]) == (0.005, pytest.approx(0.025))
    assert fit.attrs["source_address"] == "https://github.com/adrian-valente/lowrank_inference"
    weights = folder / fit.attrs["source_file"]
    assert fit.attrs["source_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    stored = torch.load(weights, weights_only=True)
    np.testing.assert_array_equal(fit["m"].values, stored["m"].numpy())
    assert "alpha or tau_s" in placed["models/mine.pt"].reason or "dt_s" in placed["models/mine.pt"].reason
    assert "read safely" in placed["models/broken.pt"].reason
    assert "models/osc_rnn_params.pkl" not in placed


def test_what_the_user_says_holds_for_networks_that_are_not_known(folder, tmp_path):
    made = {one.path.name: one for one in make_shelf(folder, tmp_path / "shelf", dt_s=0.01, alpha=0.1) if one.path}
    assert nl.read_fit(made["models-mine.nwb"].path).attrs["dt_s"] == 0.01
    assert nl.read_fit(made["models-rdm_rank1_512.nwb"].path).attrs["dt_s"] == 0.02
    made_otherwise = make_shelf(folder, tmp_path / "other", dt_s=0.01, tau_s=0.05, nonlinearity="relu")
    known = nl.read_fit(next(one.path for one in made_otherwise if one.source == "models/rdm_rank1_512.pt"))
    assert (known.attrs["tau_s"], known.attrs["nonlinearity"]) == (pytest.approx(0.1), "tanh")
    first, second = (nl.read_fit(made[name].path)["m"].values for name in ("models-dm.nwb", "models-dm-fit.nwb"))
    np.testing.assert_array_equal(second, 2 * first)


def test_files_that_exist_stay(folder, tmp_path):
    made = [one.path for one in make_shelf(folder, tmp_path / "shelf") if one.path]
    content = [path.read_bytes() for path in made]
    again = make_shelf(folder, tmp_path / "shelf")
    assert not [one for one in again if one.path]
    assert sum("exists already" in one.reason for one in again) == len(made)
    assert [path.read_bytes() for path in made] == content


def test_the_command(folder, tmp_path, capsys):
    main(["shelf", str(folder), "--out", str(tmp_path / "shelf")], standalone_mode=False)
    found = capsys.readouterr()
    assert "fit to monkey A, 12 neurons, rank 3, https://github.com/adrian-valente/lowrank_inference" in found.out
    assert "4 networks, 2 left out" in found.out
    assert "left out: models/broken.pt" in found.err
    assert "shelf" in app.commands


def test_a_folder_without_networks_is_named(tmp_path):
    with pytest.raises(NWBError, match="no files of weights"):
        make_shelf(tmp_path, tmp_path / "shelf")


def test_every_entry_says_who_published_it():
    for one in PUBLISHED:
        assert one.address.startswith("https://github.com/")
        assert one.reference
        assert set(one.options) <= {"dt_s", "alpha", "nonlinearity"}


@pytest.mark.skipif(not TEACHERS.is_dir(), reason="the paper's networks are not there (shared/data/teachers)")
def test_the_four_networks_of_the_paper_and_its_fits(tmp_path):
    placed = make_shelf(TEACHERS, tmp_path / "shelf")
    assert sorted(one.path.name for one in placed) == sorted(
        f"{name}{what}.nwb" for name in ("dm", "wm", "cdm", "dms") for what in ("", "-fit")
    )

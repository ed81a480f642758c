"""A stopped fit of single trials continues to the result of one that was not stopped; other checkpoints are refused."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.statespace.checkpoint import Snapshot
from nwb_lint.statespace.learning import iterations
from nwb_lint.testing import mock_trials

FAST = {"rank": 1, "tau_s": 0.1, "hidden": 4, "max_iter": 9, "tol": 0.0, "test_size": 4}


class Killed(BaseException):
    """What ends a fit in its middle, whatever would catch errors."""


@pytest.fixture(scope="module")
def trials():
    return mock_trials(n_neurons=8, n_trials=16)


@pytest.fixture(scope="module")
def whole(trials):
    return nl.fit_trials(trials, **FAST)


@pytest.fixture
def counted(monkeypatch):
    """Counts M steps; raises at the one of the number given."""
    plain, state = iterations.maximization, {"done": 0, "last": None}

    def one(*arguments):
        if state["done"] == state["last"]:
            raise Killed
        state["done"] += 1
        return plain(*arguments)

    monkeypatch.setattr(iterations, "maximization", one)
    return state


def stopped(counted, last, trials, path):
    counted |= {"done": 0, "last": last}
    with pytest.raises(Killed):
        nl.fit_trials(trials, **FAST, checkpoint=path)
    counted |= {"done": 0, "last": None}


@pytest.mark.parametrize("at_once", [False, True])
def test_a_stopped_fit_continues_to_the_same_result(trials, whole, tmp_path, counted, monkeypatch, at_once):
    """Whether each iteration is written at once, or the last one when the fit ends."""
    if at_once:
        monkeypatch.setattr(Snapshot.__init__, "__defaults__", (0.0,))
    nl.fit_trials(trials, **FAST)
    number = counted["done"]
    stopped(counted, 2, trials, tmp_path / "c")
    stopped(counted, 3, trials, tmp_path / "c")
    assert nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c").identical(whole)
    assert counted["done"] == number - 5
    counted["done"] = 0
    assert nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c").identical(whole)
    assert counted["done"] == 0
    assert [one.name for one in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_checkpoint_is_refused_or_its_values_are_whole(trials, whole, tmp_path, counted, seed):
    stopped(counted, 3, trials, tmp_path / "c")
    content = bytearray((tmp_path / "c").read_bytes())
    content[np.random.default_rng(seed).integers(len(content))] ^= 0x10
    (tmp_path / "c").write_bytes(content)
    try:
        found = nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c")
    except ContractError:
        with pytest.raises(ContractError, match=r"is damaged. Delete it|not a checkpoint"):
            nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c")
        assert (tmp_path / "c").read_bytes() == content
    else:
        assert found.identical(whole)


def test_a_checkpoint_that_was_cut_is_refused(trials, tmp_path, counted):
    stopped(counted, 3, trials, tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    for cut in (1, 200, len(content) // 2):
        (tmp_path / "c").write_bytes(content[:-cut])
        with pytest.raises(ContractError, match=r"is damaged. Delete it"):
            nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c")


@pytest.mark.parametrize("more", [{"rank": 2}, {"seed": 1}, {"noise": "diagonal"}, {"max_iter": 8}, {"count": 1}, {}])
def test_a_checkpoint_of_another_fit_is_refused_and_not_changed(trials, whole, tmp_path, more):
    """Other options, other counts, or another start."""
    path, how = tmp_path / "c", FAST | {"max_iter": 1}
    nl.fit_trials(trials, **how | {"max_iter": 2}, checkpoint=path)
    before, how = path.read_bytes(), how | {"max_iter": 2} | more
    other = trials.copy(deep=True)
    other["count"].values[...] += how.pop("count", 0)
    with pytest.raises(ContractError, match=r"checkpoint of another fit.*delete"):
        nl.fit_trials(other, **how, start=None if more else whole, checkpoint=path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_checkpoint_is_refused_and_not_changed(trials, tmp_path):
    (tmp_path / "text").write_text("my notes")
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "arrays.npz", header=np.ones(3))
    for path in list(tmp_path.iterdir()):
        before = path.read_bytes()
        with pytest.raises(ContractError, match="not a checkpoint"):
            nl.fit_trials(trials, **FAST, checkpoint=path)
        assert path.read_bytes() == before
    for path in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(ContractError, match="cannot be opened"):
            nl.fit_trials(trials, **FAST, checkpoint=path)


def test_a_disk_that_is_full_ends_no_fit(trials, whole, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="cannot be written"):
        assert nl.fit_trials(trials, **FAST, checkpoint=tmp_path / "c").identical(whole)
    assert [one.name for one in tmp_path.iterdir()] == ["c"]

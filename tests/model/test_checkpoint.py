"""A stopped fit continues to the result of one that was not stopped; a checkpoint of another fit is refused."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model._torch import Problem
from nwb_lint.model.checkpoint import Journal

OPTIONS = {"rank": 1, "tau_s": 0.1, "method": "gradient", "max_iter": 25, "test_size": 0.2}


class Killed(BaseException):
    """What ends a fit in its middle, whatever would catch errors."""


@pytest.fixture
def counted(monkeypatch):
    """Counts gradients; raises at the one of the number given."""
    plain = Problem.loss_and_gradient
    state = {"done": 0, "last": None}

    def one(self, *network):
        if state["done"] == state["last"]:
            raise Killed
        state["done"] += 1
        return plain(self, *network)

    monkeypatch.setattr(Problem, "loss_and_gradient", one)
    return state


def stopped(counted, last, activity, path, **more):
    counted |= {"done": 0, "last": last}
    with pytest.raises(Killed):
        nl.fit_lint(activity, checkpoint=path, **OPTIONS | more)
    counted |= {"done": 0, "last": None}


@pytest.mark.parametrize(
    ("more", "long_n"),
    [
        ({}, np.inf),
        ({}, 0.0),
        ({"method": "auto", "hidden": 5, "max_iter": 4}, np.inf),
        ({"method": "auto", "max_iter": 2}, np.inf),
    ],
)
def test_a_stopped_fit_continues_to_the_same_result(truth, tmp_path, counted, monkeypatch, more, long_n):
    """Also where n is shortened, which `LONG_N` of 0 does in every fit, and where two iterations are too few."""
    monkeypatch.setattr("nwb_lint.model.stages.gradient.LONG_N", long_n)
    activity, path = truth(neurons=10, conditions=16).activity, tmp_path / "c"
    whole = nl.fit_lint(activity, **OPTIONS | more)
    assert (whole.attrs.get("penalty", 0) > 0) == (long_n == 0)
    number = counted["done"]
    stopped(counted, number // 2, activity, path, **more)
    stopped(counted, number // 4, activity, path, **more)
    again = nl.fit_lint(activity, checkpoint=path, **OPTIONS | more)
    assert counted["done"] == number - number // 2 - number // 4
    assert again.identical(whole)
    counted["done"] = 0
    assert nl.fit_lint(activity, checkpoint=path, **OPTIONS | more).identical(whole)
    assert counted["done"] == 0


@pytest.mark.parametrize("cut", [1, 200])
def test_a_half_written_evaluation_is_computed_again(truth, tmp_path, counted, cut):
    activity, path = truth(neurons=10, conditions=16).activity, tmp_path / "c"
    whole = nl.fit_lint(activity, **OPTIONS)
    stopped(counted, 10, activity, path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert nl.fit_lint(activity, checkpoint=path, **OPTIONS).identical(whole)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_evaluation_is_computed_again(truth, tmp_path, seed):
    activity, path = truth(neurons=10, conditions=16).activity, tmp_path / "c"
    whole = nl.fit_lint(activity, checkpoint=path, **OPTIONS)
    content = bytearray(path.read_bytes())
    after_head = content.index(b"\x93NUMPY", 8)
    content[np.random.default_rng(seed).integers(after_head, len(content))] ^= 0x10
    path.write_bytes(content)
    assert nl.fit_lint(activity, checkpoint=path, **OPTIONS).identical(whole)


@pytest.mark.parametrize(("interval_s", "written"), [(0.0, True), (1e9, False)])
def test_evaluations_are_written_at_the_given_interval(tmp_path, interval_s, written):
    with Journal(tmp_path / "c", "x", interval_s) as journal:
        empty = (tmp_path / "c").stat().st_size
        journal.recorded(lambda a: float(a @ a))(np.ones(3))
        assert ((tmp_path / "c").stat().st_size > empty) == written
    assert (tmp_path / "c").stat().st_size > empty


def test_an_evaluation_of_other_arguments_is_not_used(tmp_path):
    def square(a):
        return float(a @ a), 2 * a

    with Journal(tmp_path / "c", "x") as journal:
        journal.recorded(square)(np.ones(3))
        journal.recorded(square)(np.full(3, 2.0))
    with Journal(tmp_path / "c", "x") as journal:
        kept = journal.recorded(lambda a: pytest.fail("was run") if a[0] == 1 else square(a))
        assert kept(np.ones(3))[0] == 3
        loss, gradient = kept(np.full(3, 5.0))
        assert loss == 75
        np.testing.assert_array_equal(gradient, 10)
    with Journal(tmp_path / "c", "x") as journal:
        kept = journal.recorded(lambda a: pytest.fail("was run"))
        assert (kept(np.ones(3))[0], kept(np.full(3, 5.0))[0]) == (3, 75)


@pytest.mark.parametrize(
    "more", [{"rank": 2}, {"seed": 1}, {"l2_n": 0.1}, {"test_size": 0.3}, {"bias": True}, {"scale": 2}]
)
def test_a_checkpoint_of_another_fit_is_refused_and_not_changed(truth, tmp_path, more):
    activity, path = truth(neurons=10, conditions=16).activity, tmp_path / "c"
    nl.fit_lint(activity, checkpoint=path, **OPTIONS | {"max_iter": 2})
    before = path.read_bytes()
    activity = activity.assign(activity=activity["activity"] * np.float32(more.pop("scale", 1)))
    with pytest.raises(ContractError, match=r"checkpoint of another fit.*delete"):
        nl.fit_lint(activity, checkpoint=path, **OPTIONS | {"max_iter": 2} | more)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_checkpoint_is_refused_and_not_changed(truth, tmp_path):
    activity = truth(neurons=10, conditions=16).activity
    (tmp_path / "text").write_text("my notes")
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("text", "array.npy"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ContractError, match="not a checkpoint"):
            nl.fit_lint(activity, checkpoint=tmp_path / name, **OPTIONS)
        assert (tmp_path / name).read_bytes() == before
    for path in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(ContractError, match="cannot be opened"):
            nl.fit_lint(activity, checkpoint=path, **OPTIONS)
    for method in ("regression", "published"):
        with pytest.raises(ContractError, match="checkpoint keeps evaluations"):
            nl.fit_lint(activity, checkpoint=tmp_path / "new", **OPTIONS | {"method": method})
    assert not (tmp_path / "new").exists()

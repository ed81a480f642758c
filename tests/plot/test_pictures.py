"""The comparison of pictures tells figures apart, and passes over text that is a pixel off."""

import ast
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nwb_lint import plot
from tests.plot.pictures import BASELINE, MOST, difference, picture

KEPT = sorted(path.stem for path in BASELINE.glob("*.png"))


def drawn(*, line=True, shift=0.0, width=1.4, pad=4.0):
    figure = Figure(figsize=(3, 2.5))
    ax = figure.subplots()
    ax.plot([0, 1, 2], [shift, 1 + shift, 0], lw=width)
    if line:
        ax.plot([0, 1, 2], [1, 0, 1], color="#C85200", lw=1.4)
    ax.set_xlabel("time (s)", fontsize=8, labelpad=pad)
    ax.set_xlim(0, 2)
    ax.set_ylim(0, 2)
    return picture(figure)


def test_difference():
    assert difference(drawn(), drawn()) == 0
    assert 0 < difference(drawn(), drawn(width=1.5, pad=5.5)) < MOST
    assert difference(drawn(), drawn(line=False)) > MOST
    assert difference(drawn(), drawn(shift=0.2)) > MOST


def names_in_tests():
    """Every text in the tests of this folder, the pictures that they compare with among them."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py")]
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("name", sorted(plot.__all__))
def test_every_figure_has_a_kept_picture(name):
    """By its name, or by that and what it shows: flow2, scores_baselines."""
    assert [kept for kept in KEPT if re.fullmatch(rf"{name}(\d?|_[a-z]+)", kept)]


@pytest.mark.parametrize("kept", KEPT)
def test_every_kept_picture_is_compared(kept):
    assert kept in names_in_tests()

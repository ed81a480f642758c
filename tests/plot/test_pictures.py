"""The comparison of pictures tells figures apart, and passes over text that is a pixel off."""

from matplotlib.figure import Figure

from tests.plot.pictures import MOST, difference, picture


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

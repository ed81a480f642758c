"""Figures of populations and inactivations show the numbers of their Datasets, and look as the kept pictures do."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_lint import plot
from nwb_lint.errors import ContractError
from tests.plot.pictures import assert_looks_like


@pytest.fixture(scope="module")
def populations():
    rng = np.random.default_rng(0)
    covariance = np.array([[[1.0, 0.8], [0.8, 1.0]], [[1.0, -0.6], [-0.6, 0.5]]])
    label = np.repeat([0, 1], [60, 40])
    draw = np.array([rng.multivariate_normal([0, 0], covariance[k]) for k in label])
    return xr.Dataset(
        {
            "population": ("neuron", label),
            "loading": (("neuron", "vector"), draw),
            "mean": (("group", "vector"), np.zeros((2, 2))),
            "covariance": (("group", "vector", "vector_other"), covariance),
            "gain": (("condition", "group"), np.array([[0.9, 0.3], [0.8, 0.4], [0.3, 0.9], [0.2, 0.8]])),
            "stability": ("n_groups", np.array([1.0, 0.95, 0.4])),
            "stability_chance": ("n_groups", np.array([1.0, 0.4, 0.3])),
        },
        {
            "neuron": [str(k) for k in range(100)],
            "vector": ["m 1", "n 1"],
            "group": ["1", "2"],
            "n_groups": [1, 2, 3],
            "condition": list("abcd"),
            "context": ("condition", ["color", "color", "motion", "motion"]),
        },
        {"kind": "populations"},
    )


@pytest.fixture(scope="module")
def result():
    x = np.tile(np.repeat([-0.4, -0.1, 0.1, 0.4], 5), 2)
    context = np.repeat(["color", "motion"], 20)
    rng = np.random.default_rng(1)
    z = np.stack([x, np.where(context == "motion", 0.1 * x, x)]) + 0.1 * rng.standard_normal((2, 40))
    control = np.array([[[0.8, 0.7], [0.9, 0.85], [1.0, 0.95]], [[0.7, 0.7], [0.8, 0.8], [0.9, 0.9]]])
    return xr.Dataset(
        {
            "factor": (("group", "neuron"), np.array([[1.0, 1, 1], [0, 1, 1]])),
            "activity_change": (("group", "condition", "neuron"), np.zeros((2, 40, 3))),
            "effect": ("group", np.array([0.0, 0.6])),
            "effect_control": (("group", "quantile"), np.array([[0.0, 0.0, 0.0], [0.2, 0.3, 0.4]])),
            "accuracy": (("group", "context"), np.array([[1.0, 0.98], [0.95, 0.5]])),
            "accuracy_intact": ("context", np.array([1.0, 0.98])),
            "accuracy_control": (("group", "quantile", "context"), control),
            "output": (("group", "condition", "time"), np.stack([0 * z, z], axis=-1)),
        },
        {
            "group": ["intact", "population 1"],
            "neuron": list("xyz"),
            "quantile": [0.05, 0.5, 0.95],
            "context": ["color", "motion"],
            "condition_context": ("condition", context),
            "condition": [str(k) for k in range(40)],
            "motion": ("condition", x),
            "time": [0.0, 0.02],
        },
        {"kind": "inactivation", "context": "context"},
    )


def test_loadings_and_their_lines(populations):
    ax = plot.loadings(populations)
    points, lines = ax.lines[::2], ax.lines[1::2]
    np.testing.assert_array_equal(points[1].get_ydata(), populations["loading"].values[60:, 1])
    for k, slope in enumerate((0.8, -0.6)):
        (x0, x1), (y0, y1) = lines[k].get_data()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(slope)
    assert_looks_like(ax, "loadings")


def test_gains_by_context(populations):
    ax = plot.population_gains(populations, by="context")
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, [0.85, 0.35, 0.25, 0.85])
    assert_looks_like(ax, "population_gains")


def test_number_of_populations(populations):
    ax = plot.population_number(populations)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), populations["stability"])
    assert_looks_like(ax, "population_number")


def test_bars_beside_their_controls(result):
    ax = plot.inactivation_bars(result)
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, result["accuracy"].values.T.ravel())
    ends = np.array([path.vertices[:, 1] for path in ax.collections[1].get_paths()])
    np.testing.assert_allclose(ends, [[0.7, 0.95], [0.7, 0.9]])
    assert_looks_like(ax, "inactivation_bars")
    effect = plot.inactivation_bars(result, quantity="effect")
    np.testing.assert_allclose([bar.get_height() for bar in effect.patches], [0, 0.6])


def test_psychometric_curves(result):
    ax = plot.psychometric(result, "motion")
    z, x = result["output"].values[1, 20:, -1], result["motion"].values[20:]
    expected = [(z[x == level] > 0).mean() for level in (-0.4, -0.1, 0.1, 0.4)]
    np.testing.assert_allclose(np.asarray(ax.containers[3][0].get_ydata(), float), expected)
    assert_looks_like(ax, "psychometric")
    flat = plot.psychometric(result, "motion", groups=["population 1"], kind="output", window_s=(0.0, 0.02))
    assert not np.any(flat.containers[0][0].get_ydata())
    nothing = plot.psychometric(result.assign(motion=np.nan * result["motion"]), "motion")
    assert not any(len(part[0].get_xdata()) for part in nothing.containers)


def test_weights_of_a_readout_in_their_order():
    weights = np.array([0.4, -1.2, 0.1, 2.0])
    data = {"readout": ("neuron", weights), "intercept": 0.3, "score": 0.875}
    attrs = {"kind": "readout", "column": "choice", "metric": "accuracy"}
    readout = xr.Dataset(data, {"neuron": list("abcd")}, attrs)
    ax = plot.readout_weights(readout)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), np.sort(weights))
    assert ax.get_title() == "Readout of choice, accuracy 0.88"
    assert_looks_like(ax, "readout_weights")
    plot.readout_weights(readout.assign_attrs(column=r"$\no$")).figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, r: plot.loadings(p, x="m7"), "no vector 'm7'"),
        (lambda p, r: plot.loadings(r), "needs to be populations"),
        (lambda p, r: plot.population_gains(p, by="side"), "no column 'side'"),
        (lambda p, r: plot.population_number(p.drop_vars("stability")), "no stability"),
        (lambda p, r: plot.inactivation_bars(r.drop_vars("accuracy")), "no accuracy"),
        (lambda p, r: plot.inactivation_bars(r, quantity="speed"), "'accuracy' or 'effect'"),
        (lambda p, r: plot.psychometric(r, "condition_context"), "of numbers"),
        (lambda p, r: plot.psychometric(r, "motion", groups=["nobody"]), "no group 'nobody'"),
        (lambda p, r: plot.psychometric(r, "motion", window_s=(5.0, 6.0)), "the window is 5 to 6 s"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(populations, result, call, words):
    with pytest.raises(ContractError, match=words) as caught:
        call(populations, result)
    assert "\n" not in str(caught.value)

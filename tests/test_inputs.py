"""Inputs: every kind against its definition, windows half open, what defines each kept, errors in one line."""

import tomllib
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input, build_inputs

TIME = 0.02 * np.arange(20)


def recording(**columns):
    """Six conditions, twenty bins of 20 ms from 0 s on."""
    columns = {
        "motion": [-0.5, -0.1, 0.1, 0.5, 0.2, -0.2],
        "side": ["left", "right"] * 3,
        "correct": [True, False, False, True, True, True],
        "block": [1, 2, 3, 1, 2, 3],
    } | columns
    coords = {name: ("condition", np.array(values)) for name, values in columns.items()}
    return xr.Dataset(coords={"time": TIME, **coords}, attrs={"bin_s": 0.02})


def built(*inputs, burn_in_s=0.0, **columns):
    return build_inputs(recording(**columns), inputs, burn_in_s)


def amplitudes(*inputs, **columns):
    """(condition, input): the input, which is the same at all times."""
    u = built(*inputs, **columns)["u"].values
    assert (u == u[:, :1]).all()
    return u[:, 0]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Input("a", column="motion"), [-0.5, -0.1, 0.1, 0.5, 0.2, -0.2]),
        (Input("a", column="motion", scale=-2.0), [1.0, 0.2, -0.2, -1.0, -0.4, 0.4]),
        (Input("a", column="block"), [1, 2, 3, 1, 2, 3]),
        (Input("a", column="side", equals="right"), [0, 1, 0, 1, 0, 1]),
        (Input("a", column="block", equals=2, scale=3.0), [0, 3, 0, 0, 3, 0]),
        (Input("a", column="block", equals=2.0), [0, 1, 0, 0, 1, 0]),
        (Input("a", column="block", equals="2"), [0, 1, 0, 0, 1, 0]),
        (Input("a", column="correct", equals=True), [1, 0, 0, 1, 1, 1]),
        (Input("a", column="correct", equals=False), [0, 1, 1, 0, 0, 0]),
        (Input("a", column="correct", equals="False"), [0, 1, 1, 0, 0, 0]),
        (Input("a", scale=0.5), [0.5] * 6),
    ],
)
def test_amplitudes(one, expected):
    np.testing.assert_allclose(amplitudes(one)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(("column", "levels"), [("side", ["left", "right"]), ("correct", ["False", "True"])])
def test_a_text_has_an_input_for_each_level(column, levels):
    out = built(Input("x", column=column, scale=2.0))
    assert list(out["input"].values) == [f"x={level}" for level in levels]
    assert list(out["input_equals"].values) == levels
    np.testing.assert_array_equal(out["u"].values.sum(axis=2), 2)
    for k, level in enumerate(levels):
        one = built(Input("x", column=column, equals=level, scale=2.0))
        np.testing.assert_array_equal(out["u"].values[..., k], one["u"].values[..., 0])


@settings(max_examples=50, deadline=None)
@given(st.integers(-5, 19), st.integers(1, 25), st.integers(0, 5))
def test_window_is_half_open_on_the_whole_axis(first, length, before):
    """Window edges on bin centers: the start is in, the stop is not, burn-in included."""
    axis = np.concatenate([TIME[0] - 0.02 * np.arange(before, 0, -1), TIME])
    start, stop = TIME[0] + 0.02 * first, TIME[0] + 0.02 * (first + length)
    on = (np.arange(-before, 20) >= first) & (np.arange(-before, 20) < first + length)
    one = Input("a", window_s=(start, stop))
    if not on.any():
        with pytest.raises(ContractError, match="window that meets it"):
            built(one, burn_in_s=0.02 * before)
        return
    out = built(one, burn_in_s=0.02 * before)
    parts = [out["u_burn_in"].values] if before else []
    u = np.concatenate([*parts, out["u"].values], axis=1)
    np.testing.assert_array_equal(u[..., 0], np.tile(on, (6, 1)))
    assert out.sizes.get("burn_in", 0) == before
    if before:
        np.testing.assert_allclose(out["burn_in"], axis[:before], atol=1e-12)


def test_what_defines_an_input_is_kept():
    out = built(Input("m", column="motion", scale=2.0, window_s=(0.0, 0.1)), Input("go", column="block", equals=3))
    assert list(out["input"].values) == ["m", "go"]
    assert list(out["input_column"].values) == ["motion", "block"]
    assert list(out["input_equals"].values) == ["", "3"]
    np.testing.assert_array_equal(out["input_scale"], [2, 1])
    np.testing.assert_array_equal(out["input_start_s"], [0, np.nan])
    np.testing.assert_array_equal(out["input_stop_s"], [0.1, np.nan])
    assert out["u"].dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "named", "free"),
    [
        ([Input("a", column="motion"), Input("b", column="motion", scale=-3.0), Input("on")], ["a", "b"], ["on"]),
        ([Input("side", column="side"), Input("on"), Input("m", column="motion")], ["side=left", "on"], ["m"]),
        ([Input("one"), Input("two", scale=2.0)], ["one", "two"], []),
    ],
)
def test_collinear_inputs_are_named(inputs, named, free):
    with pytest.warns(UserWarning, match="are collinear") as caught:
        built(*inputs)
    (warning,) = caught
    words = str(warning.message).split("inputs ")[1].split(" are")[0].split(", ")
    assert set(named) <= set(words)
    assert not set(free) & set(words)
    assert "\n" not in str(warning.message)


def test_inputs_of_different_windows_are_not_collinear():
    built(Input("a", column="motion", window_s=(-0.1, 0.1)), Input("b", column="motion", window_s=(0.1, 0.3)))


@pytest.mark.parametrize("own", [{"column": "motion", "scale": 2.0}, {"column": "side"}, {}], ids=str)
def test_several_windows_are_an_input_each(own):
    windows = [(0.0, 0.1), (0.1, 0.2), (0.3, 0.4)]
    out = built(Input("a", window_s=windows, **own))
    apart = built(*(Input(f"a{k}", window_s=window, **own) for k, window in enumerate(windows)))
    order = np.lexsort((np.arange(out.sizes["input"]), out["input_start_s"]))
    np.testing.assert_array_equal(out["u"].values[..., order], apart["u"].values)
    np.testing.assert_array_equal(out["input_stop_s"].values[order], apart["input_stop_s"])
    names = list(out["input"].values)
    assert len(set(names)) == len(names)
    assert all(name.endswith(("0 to 0.1 s", "0.1 to 0.2 s", "0.3 to 0.4 s")) for name in names)


def test_a_list_with_one_window_is_that_window():
    both = [built(Input("a", window_s=window)) for window in ((0.1, 0.2), [(0.1, 0.2)])]
    xr.testing.assert_identical(*both)


def u_of(*inputs, **columns):
    return built(*inputs, **columns)["u"].values


def test_a_time_course_has_lines_between_its_values_and_is_0_outside():
    one = Input("a", column="block", times=[0.1, 0.2, 0.3], values=[1.0, 3.0, -1.0], scale=2.0)
    line = np.where((TIME > 0.099) & (TIME < 0.301), np.interp(TIME, [0.1, 0.2, 0.3], [1, 3, -1]), 0)
    np.testing.assert_allclose(u_of(one)[..., 0], 2 * np.outer([1, 2, 3, 1, 2, 3], line), rtol=1e-5)
    sampled = Input("a", column="block", times=TIME, values=np.exp(-TIME), scale=2.0)
    function = Input("a", column="block", values=lambda t: np.exp(-t), scale=2.0)
    np.testing.assert_array_equal(u_of(sampled), u_of(function))
    again = Input(**tomllib.loads(f"x = {{ {built(function)['input_definition'].values[0]} }}")["x"])
    np.testing.assert_array_equal(u_of(again), u_of(function))


@pytest.mark.parametrize(
    "own",
    [
        {"window_s": (0.1, 0.2)},
        {"window_s": [(0.1, 0.2), (0.24, 0.3)], "weights": [1.0, -2.0]},
        {"times": [0.1, 0.2], "values": [1.0, 2.0]},
        {"values": lambda t: np.cos(20 * t) * (t > 0.05)},
    ],
    ids=["window", "weights", "course", "function"],
)
def test_a_lag_shifts(own):
    now, later = (u_of(Input("a", column="motion", lag_s=lag, **own)) for lag in (0.0, 0.08))
    np.testing.assert_allclose(later[:, 4:], now[:, :-4], atol=1e-6)
    assert not later[:, :4].any()
    edges = built(Input("a", window_s=(0.1, 0.2), lag_s=0.08))
    assert (edges["input_start_s"], edges["input_stop_s"]) == (pytest.approx(0.18), pytest.approx(0.28))


def test_windows_with_weights_are_one_input():
    windows, weights = [(0.0, 0.1), (0.1, 0.2), (0.1, 0.4)], [1.0, -0.5, 2.0]
    out = built(Input("a", column="motion", window_s=windows, weights=weights))
    apart = [u_of(Input("a", column="motion", window_s=window)) for window in windows]
    expected = sum(weight * one for weight, one in zip(weights, apart, strict=True))
    np.testing.assert_allclose(out["u"].values, expected, rtol=1e-6)
    assert list(out["input"].values) == ["a"]


@pytest.mark.parametrize("order", [1, -1], ids=["after", "before"])
def test_a_product_is_the_product(order):
    parts = [Input("m", column="motion", window_s=(0, 0.3)), Input("b", column="block", window_s=(0.1, 0.4))]
    out = built(*[*parts, Input("mb", product="m * b", scale=2.0)][::order])
    one = out.sel(input=["m", "b", "mb"])["u"].values if order == 1 else out["u"].values[..., ::-1]
    np.testing.assert_allclose(one[..., 2], 2 * one[..., 0] * one[..., 1], rtol=1e-6)
    assert list(out["input"].values) == ["m", "b", "mb"][::order]


def test_a_product_of_levels_and_windows_has_every_combination():
    sides = Input("side", column="side")
    motion = Input("m", column="motion", window_s=[(0, 0.2), (0.2, 0.4)])
    with pytest.warns(UserWarning, match="collinear"):
        out = built(sides, motion, Input("x", product="side * m"))
    u = dict(zip(out["input"].values.tolist(), np.moveaxis(out["u"].values, 2, 0), strict=True))
    for side in ("left", "right"):
        for window in ("0 to 0.2 s", "0.2 to 0.4 s"):
            np.testing.assert_array_equal(u[f"x={side} {window}"], u[f"side={side}"] * u[f"m {window}"])
    one = built(sides, motion, Input("x", product="side=left*m 0 to 0.2 s"))
    np.testing.assert_array_equal(one["u"].values[..., -1], u["x=left 0 to 0.2 s"])


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(
    TEXTS, st.none() | TEXTS, st.floats(0.1, 9), st.floats(-1, 1), st.lists(st.floats(-9, 9), min_size=1, max_size=3)
)
def test_a_definition_is_toml_of_the_input(name, column, scale, lag_s, values):
    """Whatever the texts and numbers are, the fields come back from the one line that a fit keeps."""
    times = list(range(len(values)))
    one = Input(name, column=column, scale=scale, lag_s=lag_s, times=times, values=values, window_s=(0.0, 1.5))
    fields = tomllib.loads(f"x = {{ {one.definition} }}")["x"]
    again = Input(**fields)
    assert again.definition == one.definition
    assert (again.name, again.column, again.scale, again.values) == (name, column, scale, one.values)
    assert again.windows == one.windows


def refused_in_one_line(words, make):
    with pytest.raises(ContractError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"equals": 1}, "no column"),
        ({"window_s": (0.2, 0.2)}, "start < stop"),
        ({"window_s": (float("nan"), 0.2)}, "window_s is (nan, 0.2). It needs 2 numbers"),
        ({"window_s": (0.2,)}, "window_s is (0.2,). It needs 2 numbers"),
        ({"window_s": 0.2}, "window_s is 0.2. It needs 2 numbers"),
        ({"window_s": (0.2, None)}, "window_s is (0.2, None). It needs 2 numbers"),
        ({"scale": "2"}, "scale is '2'. It needs a number"),
        ({"lag_s": None}, "lag_s is None. It needs a number"),
        ({"column": ["a", "b"]}, "column is ['a', 'b']. It needs a text"),
        ({"series": "a", "series_column": -1}, "series_column is -1. It needs a whole number from 0 on"),
        ({"values": 1.0}, "values and no times"),
        ({"values": ["a"], "times": [0.0]}, "a number at each of times, or a function"),
        ({"values": [1.0], "times": 0.0}, "times is 0.0. It needs a list of numbers"),
        ({"window_s": (0, 1), "weights": 2.0}, "weights is 2.0. It needs a list of numbers"),
        ({"window_s": [(0.0, 0.1), (0.2, 0.1)]}, "start < stop"),
        ({"window_s": [(0.0, 0.1), (0.0, 0.1)]}, "window twice"),
        ({"window_s": []}, "no window"),
        ({"scale": 0.0}, "scale=0"),
        ({"scale": float("inf")}, "scale is inf. It needs a number"),
        ({"lag_s": float("nan")}, "lag_s is nan. It needs a number"),
        ({"weights": [1.0]}, "one number for each window"),
        ({"window_s": [(0, 1), (1, 2)], "weights": [1.0]}, "one number for each window"),
        ({"values": [1.0]}, "values and no times"),
        ({"times": [1.0]}, "Give values too"),
        ({"times": [1.0, 1.0], "values": [1.0, 2.0]}, "which rise"),
        ({"times": [1.0], "values": np.exp}, "Drop times"),
        ({"series": "a", "events": "b"}, "has series and events"),
        ({"series": "a", "start": "b", "stop": "c"}, "has start and stop and series"),
        ({"where": "a"}, "Give events or table too"),
        ({"series": "a", "width_s": 0.1}, "has width_s and nothing that it belongs to. Give events too"),
        ({"events": "a", "width_s": 0.0}, "width_s is 0.0. It needs a number above 0"),
        ({"product": "a * b", "column": "c"}, "is a product"),
        ({"product": "a * b", "lag_s": 0.1}, "is a product"),
    ],
)
def test_meaningless_inputs_are_refused(options, words):
    refused_in_one_line(words, lambda: Input("a", **options))


@pytest.mark.parametrize(
    ("inputs", "columns", "burn_in_s", "words"),
    [
        ([], {}, 0.0, "no inputs"),
        ([Input("a", column="color")], {}, 0.0, "motion, side, correct, block"),
        ([Input("a", column="side", equals="up")], {}, 0.0, "left, right"),
        ([Input("a", window_s=(3.0, 4.0))], {}, 0.0, "3 to 4 s"),
        ([Input("a"), Input("a", column="motion")], {}, 0.0, "same name"),
        ([Input("a", column="motion")], {"motion": [0.0] * 6}, 0.0, "0 in every condition"),
        ([Input("a")], {}, 0.03, "multiple of the bin"),
        ([Input("a")], {}, -0.02, "from 0 on"),
        ([Input("a")], {}, float("nan"), "burn_in_s"),
        ([Input("a", column="motion")], {"motion": [np.nan, 1, 1, 1, 1, 1.0]}, 0.0, "1 have none"),
        ([Input("a", column="side")], {"side": ["left", "N/A", "right"] * 2}, 0.0, "2 have none"),
        ([Input("a", column="motion"), Input("b", product="a * c")], {}, 0.0, "The inputs before it are a. Name two"),
        ([Input("a", column="motion"), Input("b", product="a")], {}, 0.0, "with * between"),
        ([Input("a", values=lambda t: t[:3])], {}, 0.0, "values of shape (3,) at 20 times"),
        ([Input("a", values=lambda t: "high")], {}, 0.0, "a finite number for each time"),
        ([Input("a", series="speed")], {}, 0.0, "inputs=."),
    ],
)
def test_errors_are_one_line(inputs, columns, burn_in_s, words):
    refused_in_one_line(words, lambda: built(*inputs, burn_in_s=burn_in_s, **columns))


@pytest.mark.parametrize(
    ("window_s", "first_s", "burn_in_s", "warned"),
    [
        (None, -0.1, 0.0, True),
        (None, 0.0, 0.0, False),
        (None, 0.0, 0.04, True),
        ((-0.1, 0.3), -0.1, 0.0, False),  # somebody says so
        ((0.0, 0.3), -0.1, 0.0, False),
    ],
)
def test_an_input_that_acts_before_time_0_without_saying_so_is_warned_of(window_s, first_s, burn_in_s, warned):
    given = recording().assign_coords(time=first_s + 0.02 * np.arange(20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = build_inputs(given, [Input("cue", window_s=window_s)], burn_in_s)
    words = ["input cue has no window_s and is on from" in str(one.message) for one in caught]
    assert words == [True] * warned
    assert out.sizes["time"] == 20


@pytest.mark.parametrize("inputs", ["side", ["side"], Input("side"), [Input("side"), None]])
def test_what_is_no_input_is_refused(inputs):
    with pytest.raises(ContractError, match="It needs a list of Input"):
        build_inputs(xr.Dataset(), inputs, 0.0)

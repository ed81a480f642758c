"""Laws of the codec: decode undoes encode, types and order included; what has no place is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.contract.checks import check_activity, check_fit, check_recording
from nwb_lint.contract.datasets import FIT
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension.codec import decode, encode, pack, unpack
from tests.factories import assert_same, random_fit

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
INTS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.one_of(INTS, st.floats(), st.booleans())
SCALARS = st.one_of(TEXT, NUMBERS, st.integers(-128, 127).map(np.int8), st.floats(width=32).map(np.float32))
VALUES = st.one_of(
    SCALARS,
    st.lists(TEXT, max_size=4),
    st.lists(INTS, max_size=4),
    st.lists(st.floats(), max_size=4),
    st.lists(st.booleans(), max_size=4),
    st.lists(st.one_of(st.floats(), st.integers(-1000, 1000)), max_size=4),
    st.lists(st.floats(width=32).map(np.float32), max_size=3),
)
FITS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "n_neurons": st.integers(2, 7),
        "n_conditions": st.integers(2, 5),
        "n_inputs": st.integers(1, 3),
        "rank": st.integers(1, 3),
        "n_files": st.integers(0, 3),
        "text_dtype": st.sampled_from(["U", "object", "string"]),
    }
    | dict.fromkeys(["hidden", "full_rank", "burn_in", "offset_over_time", "optional"], st.booleans())
)
NAMES = st.one_of(
    st.sampled_from(["id", "name", "columns", "unit", "unit_index", "a/b", "a_b", "a:b", "trial_index", "."]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8),
)


@settings(deadline=None, max_examples=30)
@given(FITS)
def test_decode_undoes_encode(options):
    fit = random_fit(**options)
    assert_same(fit, decode(encode(fit)))


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(NAMES, VALUES, max_size=5), st.dictionaries(NAMES, VALUES, max_size=3))
def test_attributes_keep_value_and_type(attrs, of_variable):
    fit = random_fit(optional=False)
    fit.attrs.update(attrs)
    fit["r2"].attrs.update(of_variable)
    assert_same(fit, decode(encode(fit)))


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        NAMES.filter(lambda name: name not in {*FIT, *random_fit().variables, *random_fit().sizes}),
        st.sampled_from(["neuron", "condition"]),
        max_size=5,
    ),
    st.sampled_from(["U", "float32", "float16", "bool", "int8", "uint64", ">i4", "object"]),
)
def test_any_column_of_units_and_trials_comes_back(names, dtype):
    fit = random_fit(optional=False)
    for name, dim in names.items():
        fit = fit.assign_coords({name: (dim, np.arange(fit.sizes[dim]).astype("U3" if dtype == "object" else dtype))})
        if dtype == "object":
            fit[name] = fit[name].astype(object)
    assert_same(fit, decode(encode(fit)))


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_unpack_undoes_pack(value):
    back = unpack(*pack("a", value))
    assert type(back) is type(value)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(value))
    if isinstance(value, list):
        assert [type(item) for item in back] == [type(item) for item in value]


@pytest.mark.parametrize("value", [None, {"a": 1}, [1, "a"], 2**64, [None], "a\0b", "\ud800", 1j, [[1], [2]]])
def test_other_values_are_refused_by_name(value):
    fit = random_fit()
    fit.attrs["odd"] = value
    with pytest.raises(ContractError, match="odd") as error:
        encode(fit)
    assert "\n" not in str(error.value)


def test_a_group_without_layout_is_read_by_the_yaml_alone():
    fit = random_fit(text_dtype="U").drop_vars(["quality/index", "id"])
    stored = encode(fit)
    stored.arrays = {path: values for path, values in stored.arrays.items() if not path.startswith("layout_")}
    xr.testing.assert_identical(decode(stored), fit)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda fit: fit.assign(extra=("neuron", fit.bias.values)), "extra"),
        (lambda fit: fit.assign_coords(chosen=2), "chosen"),
        (lambda fit: fit.assign_coords(k=("input", [1, 2])), "k "),
        (lambda fit: fit.assign_coords(when=("condition", np.arange(4).astype("M8[s]"))), "when"),
        (lambda fit: fit.assign_coords(odd=("condition", np.array(["a", None, "b", "c"], object))), "odd"),
        (lambda fit: fit.assign_coords(rank=["a", "b"]), "rank"),
        (lambda fit: fit.assign_attrs(seed=1.5), "seed"),
        (lambda fit: fit.assign_attrs(method=3), "method"),
        (lambda fit: fit.drop_vars("input_weights"), "input_weights"),
        (lambda fit: fit.drop_vars("n"), "only m"),
        (lambda fit: fit.drop_vars(["m", "n"]), "none of m, n, J"),
        (lambda fit: fit.assign(J=(("neuron", "neuron_from"), np.zeros((6, 6)))), "J and m and n"),
        (lambda fit: fit.assign(m=fit.m.T), "m of the fit has dims"),
        (lambda fit: fit.assign(m=fit.m.where(fit.m > 0)), "m of the fit"),
        (lambda fit: fit.assign(bias=fit.bias.astype(str)), "bias"),
        (lambda fit: fit.assign_attrs(tau_s=0.0), "tau_s"),
        (lambda fit: fit.assign_attrs(dt_s="5 ms"), "dt_s"),
        (lambda fit: fit.isel(neuron=[0, 0, 1]), "s0:0"),
        (lambda fit: fit.isel(time=[]), "time"),
        (lambda fit: fit.drop_vars("time"), "time"),
        (lambda fit: 3, "int"),
    ],
)
def test_what_is_no_fit_is_refused_in_one_line_that_names_it(change, named):
    with pytest.raises(ContractError, match=named) as error:
        encode(change(random_fit()))
    assert "\n" not in str(error.value)


def test_an_unconstrained_fit_needs_a_square_J():
    with pytest.raises(ContractError, match="6 × 5"):
        check_fit(random_fit(full_rank=True).isel(neuron_from=slice(5)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda arrays: arrays.update(m=arrays["m"][:-1]), "neuron"),
        (lambda arrays: arrays.update(n=arrays["n"][0]), "n has 1 dims"),
        (lambda arrays: arrays.update(m=arrays["m"] * np.nan), "m of the fit"),
        (lambda arrays: arrays.pop("neurons/unit_id"), "unit_id is missing"),
        (lambda arrays: arrays.pop("bias"), "bias is missing"),
        (lambda arrays: arrays.pop("layout_role"), "layout_role"),
        (
            lambda arrays: arrays.update(layout_dtype=np.array(["?!"] * len(arrays["layout_dtype"]), object)),
            "'?!'",
        ),
        (lambda arrays: arrays.update(split=np.zeros(2)), "split"),
    ],
)
def test_broken_arrays_are_named(change, named):
    stored = encode(random_fit())
    change(stored.arrays)
    with pytest.raises(ContractError) as error:
        decode(stored)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_every_broken_field_is_named_at_once():
    stored = encode(random_fit())
    stored.arrays["m"] = stored.arrays["m"][:-1]
    del stored.arrays["scale"]
    with pytest.raises(ContractError, match=r"m has.*scale is missing|scale is missing.*m has"):
        decode(stored)


def test_recording_and_activity_are_checked_by_the_same_tables():
    recording = xr.Dataset(
        {
            "rate": (("condition", "time", "neuron"), np.ones((2, 3, 1), "f4")),
            "n_trials": (("condition", "neuron"), np.ones((2, 1), int)),
        },
        {"time": np.arange(3.0), "neuron": ["a"], "condition": ["x", "y"]},
        {"bin_s": 0.005},
    )
    check_recording(recording)
    with pytest.raises(ContractError, match="lacks activity"):
        check_activity(recording)
    activity = recording.rename(rate="activity").drop_vars("n_trials")
    activity = activity.assign(u=(("condition", "time", "input"), np.ones((2, 3, 1), "f4")))
    check_activity(activity)
    with pytest.raises(ContractError, match="u of the activity has 6 values"):
        check_activity(activity.assign(u=activity["u"] * np.nan))
    with pytest.raises(ContractError, match="bin_s=None"):
        check_recording(recording.drop_attrs())
    with pytest.raises(ContractError, match="n_trials of the recording is float64"):
        check_recording(recording.assign(n_trials=recording.n_trials * 1.0))


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_value_of_a_file_is_noticed(seed):
    """One value of one array of a random fit: the digest says that it is not what was written."""
    rng = np.random.default_rng(seed)
    stored = encode(random_fit(seed))
    assert decode(stored).encoding["verified"]
    paths = sorted(path for path, values in stored.arrays.items() if values.size and not path.startswith("layout_"))
    path = paths[rng.integers(len(paths))]
    values = stored.arrays[path].copy()
    at = np.unravel_index(rng.integers(values.size), values.shape)
    values[at] = f"§{values[at]}" if values.dtype.kind == "O" else values[at] == 0
    stored.arrays[path] = values
    with pytest.raises(ContractError):
        decode(stored)

"""Indices, ids and columns of any type and shape: the right numbers, or an error with name, row and numbers."""

from __future__ import annotations

import contextlib
import re
import shutil

import h5py
import numpy as np
import pytest

from nwb_lint import read_conditions, read_trials
from nwb_lint.errors import NWBError, NWBLintError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description, to_json
from nwb_lint.testing import mock_session

HOW = {"align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
TIMES, INDEX = "units/spike_times", "units/spike_times_index"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Units that were observed throughout; ragged tags; an enum; events; invalid times before all trials."""
    unit_columns = {"region": list("abcab")}
    path = mock_session(tmp_path_factory.mktemp("good") / "s.nwb", unit_columns=unit_columns, obs_intervals=True)
    with h5py.File(path, "r+") as file:
        trials = file["intervals/trials"]
        trials["tags"], trials["tags_index"] = np.array([b"x"] * 60), np.r_[np.arange(1, 40), 60]
        trials["kind"], trials["kind_elements"] = np.zeros(40, np.uint8), np.array([b"a", b"b"])
        file["acquisition/go/timestamps"] = trials["cue_time"][()]
        invalid = file.create_group("intervals/invalid_times")
        invalid["id"], invalid["start_time"], invalid["stop_time"] = [0], [-2.0], [-1.0]
    return path


@pytest.fixture
def path(good, tmp_path):
    return shutil.copy(good, tmp_path / "s.nwb")


def replaced(path, name, values, dtype=None):
    with h5py.File(path, "r+") as file:
        attrs = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values, dtype=dtype)
        file[name].attrs.update({key: value for key, value in attrs.items() if key != "target"})
    return path


def rates(path, **change):
    return read_conditions(path, by="side", **HOW | change)["rate"].values


def ends_of(path):
    with h5py.File(path) as file:
        return file[INDEX][()].astype(np.int64)


def at(ends, row, value):
    changed = ends.copy()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ends: ends[:-1], "4 ends for 5 rows"),
        (lambda ends: np.r_[ends, ends[-1]], "6 ends for 5 rows"),
        (lambda ends: ends[::-1].copy(), "falls from .* at row 1.*rising"),
        (lambda ends: at(ends, 2, -1), "is -1 for row 2"),
        (lambda ends: at(ends, 2, ends[-1] + 1), "is .* for row 2"),
        (lambda ends: ends - 1, "last 1 belong to no row"),
        (lambda ends: np.r_[0, ends[:-1]], "probably holds where rows start"),
        (lambda ends: (ends % 256).astype(np.uint8), "uint8|falls"),
        (lambda ends: np.zeros(5, np.int32), "ends at 0"),
        (lambda ends: ends + 0.5, "whole number"),
        (lambda ends: at(ends.astype(float), 1, np.nan), "nan for row 1.*whole number"),
        (lambda ends: np.stack([ends, ends]), r"of shape \(2, 5\)"),
        (lambda ends: ends.astype(complex), "complex128"),
        (lambda ends: np.ones(5, bool), "bool"),
        (lambda ends: ends.astype("S8"), "text"),
        (lambda ends: np.int64(3), "single value"),
        (lambda ends: h5py.Empty("i8"), "no values"),
        (lambda ends: at(ends.astype(np.uint64), 4, 2**63 + 5), "9223372036854775813 for row 4"),
    ],
)
def test_an_index_that_is_not_the_ends_of_rows_is_an_error(path, change, words):
    replaced(path, INDEX, change(ends_of(path)))
    with pytest.raises(NWBError, match=rf"spike_times_index of units of .*s\.nwb .*({words})"):
        rates(path)
    found = describe(path)
    assert found.units is None
    assert any("spike_times_index" in one for one in found.warnings)


@pytest.mark.parametrize(
    "change",
    [
        lambda ends: ends.astype(float),
        lambda ends: ends.astype(">u4"),
        lambda ends: ends[None],
        lambda ends: ends[:, None].astype(np.uint16),
    ],
)
def test_an_index_of_another_form_gives_the_same_rates(path, change):
    expected = rates(path)
    replaced(path, INDEX, change(ends_of(path)))
    np.testing.assert_array_equal(rates(path), expected)


def test_the_row_of_an_index_is_named_with_its_id(path):
    replaced(path, "units/id", [10, 11, 12, 13, 14])
    replaced(path, INDEX, at(ends_of(path), 3, 0))
    with pytest.raises(NWBError, match=r"to 0 at row 3 \(id 13\)"):
        rates(path)


def test_ends_that_were_lost_at_the_beginning_are_found_by_the_order_of_spikes(path):
    replaced(path, INDEX, np.r_[0, 0, ends_of(path)[2:]])
    with pytest.raises(NWBError, match=r"index .* no spikes for 2 rows before row 2.*start over"):
        rates(path)
    rates(path, units=[3])


@pytest.mark.parametrize("name", ["units/obs_intervals_index", "intervals/trials/tags_index"])
def test_every_index_is_checked(path, name):
    with h5py.File(path) as file:
        ends = file[name][()].astype(np.int64)
    replaced(path, name, ends - 1)
    with pytest.raises(NWBError, match=rf"{name.rpartition('/')[2]} .*-?1 "):
        rates(path, where="'x' in tags")


OF_N = {
    "complex": np.zeros(40, complex), "bool": np.ones(40, bool), "float16": np.arange(40).astype("f2"),
    "pairs": np.zeros(40, [("a", "i4"), ("b", "f8")]), "opaque": np.zeros(40, "V8"), "text": np.full(40, b"hello"),
    "negative": np.full(40, -3), "large": np.full(40, 2**63 + 5, np.uint64), "nan": np.full(40, np.nan),
    "rows": np.zeros((40, 2)), "columns": np.zeros((2, 40)), "cube": np.zeros((40, 1, 1)), "none": h5py.Empty("f8"),
    "one": np.float64(3), "word": "abc", "short": np.arange(3.0), "long": np.arange(50.0), "zero": np.zeros((0, 3)),
}  # fmt: skip
TYPES = {
    "enum": h5py.enum_dtype({"A": 0, "B": 1}, "i1"), "lists": h5py.vlen_dtype("f8"), "references": h5py.ref_dtype,
    "regions": h5py.regionref_dtype, "texts": h5py.string_dtype(), "ascii": h5py.string_dtype("ascii", 4),
}  # fmt: skip
PLACES = [
    TIMES, INDEX, "units/id", "units/region", "units/obs_intervals", "units/obs_intervals_index", "units/electrodes",
    "intervals/trials/id", "intervals/trials/start_time", "intervals/trials/cue_time", "intervals/trials/side",
    "intervals/trials/tags", "intervals/trials/tags_index", "intervals/trials/kind", "intervals/trials/kind_elements",
    "intervals/invalid_times/start_time", "acquisition/go/timestamps", "identifier",
]  # fmt: skip


def attempt(call, *args, **how):
    """The call gives a result, or an error of the package."""
    with contextlib.suppress(NWBLintError):
        call(*args, **how)


@pytest.mark.parametrize(("k", "name"), list(enumerate(PLACES)))
@pytest.mark.filterwarnings("ignore")
def test_no_type_or_shape_gives_an_error_of_another_package(path, k, name):
    """Each dataset in turn, with two of the types and shapes; each of them at some dataset."""
    kinds = [*OF_N.values(), *TYPES.values()]
    for values in (kinds[(5 * k + 2 * j) % len(kinds)] for j in range(2)):
        with h5py.File(path, "r+") as file:
            n = file[name].shape[0] if file[name].shape else 1
            kept = file[name][()]
            del file[name]
            if isinstance(values, np.dtype):
                file.create_dataset(name, (n,), dtype=values)
            else:
                file[name] = np.resize(values, (n, *values.shape[1:])) if np.shape(values) == (40,) else values
        columns = ["region", "location", "electrode_group"]
        attempt(read_conditions, path, by=["kind"], where="'x' in tags", unit_columns=columns, **HOW)
        attempt(read_trials, path, **HOW | {"align": "go"})
        found = describe(path)
        assert format_description(found)
        assert to_json([found])
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = kept


@pytest.mark.filterwarnings("ignore")
def test_the_other_files_are_read_where_one_is_skipped(good, path):
    with h5py.File(path, "r+") as file:
        file.attrs["object_id"] = file["units"].attrs["object_id"] = "another recording"
    for name, values in ((INDEX, np.zeros(5, [("a", "i4"), ("b", "i4")])), ("intervals/trials/cue_time", "abc")):
        replaced(path, name, values)
        found = read_conditions([good, path], by="side", errors="skip", **HOW)
        assert found.sizes["neuron"] == 5
        assert name.rpartition("/")[2] in found.attrs["assets_warnings"][1]


@pytest.mark.parametrize("turn", [lambda v: v[None], lambda v: v[:, None]])
def test_columns_in_one_row_or_column_of_a_matrix_are_read(path, turn):
    expected = rates(path)
    for name in ("id", "start_time", "stop_time", "cue_time", "side"):
        with h5py.File(path) as file:
            values = file[f"intervals/trials/{name}"][()]
        replaced(path, f"intervals/trials/{name}", turn(values), h5py.string_dtype() if name == "side" else None)
    replaced(path, "units/id", turn(np.arange(5)))
    np.testing.assert_array_equal(rates(path), expected)
    warned = [one for one in describe(path).warnings if "(1, 40): one row" in one]
    assert len(warned) == (turn(np.zeros(3)).shape[0] == 1)


def test_a_row_of_spike_times_is_refused_with_its_shape(path):
    with h5py.File(path) as file:
        times = file[TIMES][()]
    replaced(path, TIMES, times[None])
    with pytest.raises(NWBError, match=rf"spike_times .* shape \(1, {len(times)}\)"):
        rates(path)


def test_columns_that_cannot_be_read_are_listed(path):
    replaced(path, "units/region", np.zeros(3))
    replaced(path, "intervals/trials/coherence", np.zeros((0,)))
    found = describe(path)
    assert found.units.ids == [0, 1, 2, 3, 4]
    for words in ("region .* 3 values for 5 rows", "coherence .* 0 values for 40 rows"):
        assert any(re.search(words, one) for one in found.warnings)
    assert {column.kind for column in found.units.columns if column.name == "region"} == {"damaged"}
    rates(path)
    with pytest.raises(NWBError, match=r"coherence .* 0 values for 40 rows"):
        read_trials(path, **HOW)
    assert read_trials(path, **HOW, columns=["side"]).sizes["trial"] == 40


def test_tables_of_schema_2_0b_are_found_at_the_root(path):
    expected = rates(path)
    with h5py.File(path, "r+") as file:
        file["intervals/invalid_times/stop_time"][...] = 20.0
        file["intervals/invalid_times/start_time"][...] = 10.0
    limited = rates(path)
    with h5py.File(path, "r+") as file:
        for name in ("trials", "invalid_times"):
            file.move(f"intervals/{name}", name)
        del file["intervals"]
        file.attrs["nwb_version"] = "2.0b"
    np.testing.assert_array_equal(rates(path), limited)
    assert not np.array_equal(limited, expected)
    assert [table.name for table in describe(path).tables] == ["trials", "invalid_times"]


@pytest.mark.filterwarnings("ignore:.*silent unit")
def test_what_a_table_lists_and_the_file_lacks_is_an_error(path):
    with h5py.File(path, "r+") as file:
        del file["units/obs_intervals"], file["units/region"], file["intervals/trials/coherence"]
    with pytest.raises(NWBError, match="obs_intervals, which are not in the file"):
        rates(path)
    with h5py.File(path, "r+") as file:
        del file["units/obs_intervals_index"]
        file["units"].attrs["colnames"] = ["spike_times", "region"]
    rates(path)
    with pytest.raises(NWBError, match="no column 'region'"):
        rates(path, units="region == 'a'")
    text = "\n".join(describe(path).warnings)
    assert "colnames list region" in text
    assert "colnames list coherence" in text


def test_an_enumeration_without_its_words_is_an_error(path):
    with h5py.File(path, "r+") as file:
        del file["intervals/trials/kind_elements"]
        file["intervals/trials/kind"].attrs["neurodata_type"] = "EnumData"
    with pytest.raises(NWBError, match=r"kind .* words are not in the file"):
        read_conditions(path, by="kind", **HOW)


@pytest.mark.parametrize(
    ("at", "name"), [("/", "nwb_version"), ("units", "colnames"), ("intervals/trials/kind", "elements")]
)
def test_an_attribute_that_cannot_be_read_is_an_error(path, at, name):
    with h5py.File(path, "r+") as file:
        if name in file[at].attrs:
            del file[at].attrs[name]
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file[at].id, name.encode(), h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(NWBError, match=f"Attribute {name} of /.* cannot be read"):
        read_conditions(path, by="kind", **HOW)

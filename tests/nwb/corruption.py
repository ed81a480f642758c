"""A small valid recording, ways to corrupt one dataset of it, and what a reader may then return, from plain loops.

`write_recording` writes the recording that `TRUTH` holds. `KINDS` are ways to corrupt one dataset, one attribute or one
link of an open file. Each returns what the file says afterwards: the values of the dataset, `SENSELESS`, or `ABSENT`.
`expected` computes what a request must give from such values. It raises `Senseless` where only an error is right.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tests.nwb.oracle import slow_rates

Array = np.ndarray
Arrays = dict[str, Any]
N_TRIALS, END_S = 12, 26.0
WINDOW_S, BIN_S = (-0.25, 0.75), 0.25
PROBE = "V1, PFC"  # location of the electrode group
UNITS, TRIALS, INVALID = "units", "intervals/trials", "intervals/invalid_times"
EPHYS = "general/extracellular_ephys"
ELECTRODES = f"{EPHYS}/electrodes"
LICKS, SERIES = "acquisition/licks", "processing/ophys/dff"
TEXT = h5py.string_dtype()


class Senseless(Exception):
    """What a file says has no meaning: a reader must refuse it."""


class Skip(Exception):
    """A kind of corruption does not suit a dataset."""


SENSELESS, ABSENT = object(), object()
DROPPED = "numbers that stand for no time are missing"  # a reader that says so may take them for that


# ------------------------------------------------------------------------------------------------------ the recording


def _truth() -> Arrays:
    rng = np.random.default_rng(5)
    start = 1 + 2.0 * np.arange(N_TRIALS) + rng.integers(0, 7, N_TRIALS) / 64
    cue = start + 0.5 + rng.integers(0, 7, N_TRIALS) / 64
    invalid = np.array([[10.25, 10.75], [20.0, 20.5]])
    spans = [[[0.0, END_S]], [[0.0, 12.0], [13.5, END_S]], [[0.25, END_S]]]
    spikes = []
    for k, observed in enumerate(spans):
        times = np.unique(rng.integers(0, int(END_S * 1024), 180 + 60 * k)) / 1024
        inside = np.any([(times >= a) & (times <= b) for a, b in observed], axis=0)
        outside = np.all([(times < a) | (times > b) for a, b in invalid], axis=0)
        spikes.append(times[inside & outside])
    tags = [["a"], [], ["a", "b", "c"]] * (N_TRIALS // 3)
    samples = np.arange(0, END_S, 1 / 8)
    trials = {
        "id": 100 + np.arange(N_TRIALS),
        "start_time": start,
        "stop_time": start + 1.5,
        "cue_time": cue,
        "side": np.array(["left", "right", "right"] * (N_TRIALS // 3)),
        "contrast": np.array([0.0, 0.25, 0.5, 1.0] * (N_TRIALS // 4)),
        "correct": np.arange(N_TRIALS) % 5 != 0,
        "tags": np.array([tag for row in tags for tag in row]),
        "tags_index": np.cumsum([len(row) for row in tags]).astype(np.uint8),
    }
    units = {
        "id": np.array([11, 4, 7]),
        "spike_times": np.concatenate(spikes),
        "spike_times_index": np.cumsum([len(times) for times in spikes]).astype(np.uint16),
        "obs_intervals": np.concatenate([np.array(part) for part in spans]),
        "obs_intervals_index": np.cumsum([len(part) for part in spans]).astype(np.uint8),
        "quality": np.array(["good", "mua", "good"]),
        "depth": np.array([100.0, 250.5, 400.0]),
        "depths": np.array([1.5, 2.5, 3.5, 4.5]),
        "depths_index": np.array([2, 2, 4], np.uint8),
        "electrodes": np.array([1, 0, 0, 2]),
        "electrodes_index": np.array([2, 3, 4], np.uint8),
    }
    electrodes = {
        "id": np.array([5, 6, 7]),
        "location": np.array(["V1", "V1", "PFC"]),
        "group_name": np.array(["probe"] * 3),
        "x": np.array([1.0, 2.0, 3.0]),
    }
    invalid_times = {"id": np.arange(2), "start_time": invalid[:, 0], "stop_time": invalid[:, 1]}
    tables = {UNITS: units, TRIALS: trials, ELECTRODES: electrodes, INVALID: invalid_times}
    found = {f"{at}/{name}": values for at, table in tables.items() for name, values in table.items()}
    return found | {
        f"{LICKS}/timestamps": np.sort(np.concatenate([cue + 0.125, start[::2] + 0.25])),
        f"{LICKS}/data": np.ones(N_TRIALS + N_TRIALS // 2),
        f"{SERIES}/data": np.round(rng.standard_normal((len(samples), 3)), 3),
        f"{SERIES}/timestamps": samples,
    }


TRUTH = _truth()
CONVERSION = 0.5  # of the series
TABLES = {UNITS: "Units", TRIALS: "TimeIntervals", ELECTRODES: "DynamicTable", INVALID: "TimeIntervals"}
FACTS = {
    "identifier": "small", "session_description": "a small session", "session_start_time": "2024-05-06T07:08:09+00:00",
    "timestamps_reference_time": "2024-05-06T07:08:09+00:00", "general/session_id": "s1",
    "general/subject/subject_id": "m1",
}  # fmt: skip


def write_recording(path: Path) -> None:
    """The recording that `TRUTH` holds, as pynwb lays it out."""
    with h5py.File(path, "w") as file:
        file.attrs.update(nwb_version="2.7.0", neurodata_type="NWBFile", namespace="core", object_id="root of small")
        for at, text in FACTS.items():
            file[at] = text
        file["file_create_date"] = np.array(["2024-05-06T08:00:00+00:00"], TEXT)
        for at, values in TRUTH.items():
            put(file, at, values)
        probe = file.create_group(f"{EPHYS}/probe")
        _type(probe, "core", "ElectrodeGroup", "a probe")
        probe.attrs["location"] = PROBE
        _type(file.create_group("general/devices/probe"), "core", "Device", "a probe")
        probe["device"] = h5py.SoftLink("/general/devices/probe")
        file[f"{ELECTRODES}/group"] = np.array([probe.ref] * 3, h5py.ref_dtype)
        for at, kind in TABLES.items():
            names = [name for name in file[at] if name != "id" and not name.endswith("_index")]
            _type(file[at], "hdmf-common" if kind == "DynamicTable" else "core", kind, at)
            file[at].attrs["colnames"] = np.array(names, TEXT)
            for name in file[at]:
                _type(file[at][name], "hdmf-common", "VectorData", name)
                if name.endswith("_index"):
                    target = file[at][name.removesuffix("_index")].ref
                    file[at][name].attrs.update(neurodata_type="VectorIndex", target=target)
            file[f"{at}/id"].attrs["neurodata_type"] = "ElementIdentifiers"
        file[f"{UNITS}/electrodes"].attrs.update(table=file[ELECTRODES].ref, neurodata_type="DynamicTableRegion")
        for at in (LICKS, SERIES):
            _type(file[at], "core", "TimeSeries", at)
            file[f"{at}/timestamps"].attrs.update(unit="seconds", interval=np.int32(1))
            file[f"{at}/data"].attrs.update(unit="a.u.", conversion=CONVERSION if at == SERIES else 1.0)
        _type(file["processing/ophys"], "core", "ProcessingModule", "fluorescence")
        _type(file["general/subject"], "core", "Subject", "a mouse")


def _type(item: h5py.Group | h5py.Dataset, namespace: str, kind: str, description: str) -> None:
    about = {"namespace": namespace, "neurodata_type": kind, "object_id": f"id of {item.name}"}
    item.attrs.update(about | {"description": description})


def put(file: h5py.File, at: str, values: Any, **how: Any) -> h5py.Dataset:
    """A dataset in place of another: attributes stay, and an index points at it again."""
    attributes = dict(file[at].attrs) if at in file else {}
    if at in file:
        del file[at]
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values, how = values.astype(object), {"dtype": TEXT} | how
    made = file.create_dataset(at, data=values, **how)
    made.attrs.update(attributes)
    if f"{at}_index" in file and isinstance(file[f"{at}_index"], h5py.Dataset):
        file[f"{at}_index"].attrs["target"] = made.ref
    return made


# ----------------------------------------------------------------------------------- what requests must give, by loops


class Request(NamedTuple):
    """A call of a reader, and the loops that compute what it must give from the values in the file."""

    reader: str
    how: dict[str, Any]
    expect: Callable[[Arrays], Arrays]


class Values:
    """The values of a file as numbers, texts and bounds; `Senseless` where they cannot be those."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def has(self, at: str) -> bool:
        return self.arrays.get(at, ABSENT) is not ABSENT

    def get(self, at: str) -> Array:
        values = self.arrays.get(at, ABSENT)
        if values is SENSELESS or values is ABSENT:
            raise Senseless(at)
        return values

    def times(self, at: str) -> Array:
        """Numbers; texts of numbers are numbers in a column of trials, and other texts are missing there."""
        values = self.get(at)
        if values.dtype.kind == "U" and at.startswith("intervals/"):
            return np.array([_number(text) for text in values])
        if values.dtype.kind not in "iuf":
            raise Senseless(at)
        if values.dtype.kind == "f" and values.dtype.itemsize < 8 and at.startswith("intervals/"):
            return values.astype(str).astype(float)  # 0.1 is 0.1 in a column of a table
        return values.astype(float)

    def ends(self, at: str, n_rows: int, n_values: int) -> Array:
        values = self.get(at)
        whole = values.dtype.kind in "iuf" and np.isfinite(values.astype(float)).all() and (values == values // 1).all()
        if not whole or len(values) != n_rows or (values < 0).any() or (values > n_values).any():
            raise Senseless(at)
        ends = values.astype(np.int64)
        if (np.diff(ends) < 0).any() or ends[-1] != n_values:
            raise Senseless(at)
        return ends

    def ids(self, at: str, n_rows: int) -> list:
        """Ids, made unique as labels where they are not; row numbers where the file has none."""
        if not self.has(at):
            return [f"row {k}" if at.startswith(UNITS) else k for k in range(n_rows)]
        values = self.get(at)
        if values.dtype.kind not in "iufU" or len(values) != n_rows:
            raise Senseless(at)
        return values.tolist()

    def rows(self, at: str, n_rows: int) -> Array:
        values = self.get(at)
        if len(values) != n_rows:
            raise Senseless(at)
        return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def spikes_of(values: Values) -> tuple[list[Array], int]:
    """Sorted finite spike times of each unit, and the number of units."""
    times = values.times(f"{UNITS}/spike_times")
    n = len(values.get(f"{UNITS}/spike_times_index"))
    if values.has(f"{UNITS}/id"):
        n = len(values.get(f"{UNITS}/id"))
    ends = values.ends(f"{UNITS}/spike_times_index", n, len(times))
    return [np.sort(part[np.isfinite(part)]) for part in np.split(times, ends[:-1])], n


def valid_of(values: Values) -> list[tuple[float, float]]:
    """The time outside of invalid_times; rows that end before they start, or lack a number, are left out."""
    valid = [(-np.inf, np.inf)]
    if values.has(f"{INVALID}/start_time") or values.has(f"{INVALID}/stop_time"):
        edges = (values.times(f"{INVALID}/{name}_time") for name in ("start", "stop"))
        starts, stops = (np.where(np.isfinite(part), part, np.nan) for part in edges)
        if len(starts) != len(stops):
            raise Senseless(INVALID)
        valid = _without(valid, [(a, b) for a, b in zip(starts, stops, strict=True) if b >= a])
    return valid


def observed_of(values: Values, n: int) -> list[list[tuple[float, float]]]:
    """When each unit was observed: intervals that end before they start, or lack a number, are left out."""
    valid = valid_of(values)
    if not values.has(f"{UNITS}/obs_intervals"):
        return [valid] * n
    spans = values.times(f"{UNITS}/obs_intervals")
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise Senseless("obs_intervals")
    ends = values.ends(f"{UNITS}/obs_intervals_index", n, len(spans))
    kept = [[(a, b) for a, b in part if b >= a] for part in np.split(spans, ends[:-1])]
    return [[(max(a, c), min(b, d)) for a, b in part for c, d in valid if min(b, d) > max(a, c)] for part in kept]


def _without(spans: list, gaps: list) -> list:
    for a, b in sorted(gaps):
        spans = [part for c, d in spans for part in ((c, min(d, a)), (max(c, b), d)) if part[1] > part[0]]
    return spans


def is_observed(left: float, right: float, intervals: list[tuple[float, float]]) -> bool:
    """Whether [left, right] lies in the union of intervals."""
    at = left + 1e-6
    while reach := [b for a, b in intervals if a <= at < b]:
        at = max(reach)
        if at >= right - 1e-6:
            return True
    return False


def count(spikes: list[Array], origins: Array, observed: list[list[tuple[float, float]]]) -> tuple[Array, Array]:
    """Counts and observed (trial, time, neuron), one cell at a time; counts are 0 where not observed."""
    n = round((WINDOW_S[1] - WINDOW_S[0]) / BIN_S)
    counts, seen = np.zeros((len(origins), n, len(spikes)), int), np.zeros((len(origins), n, len(spikes)), bool)
    for trial, b, unit in np.ndindex(counts.shape):
        left = origins[trial] + WINDOW_S[0] + b * BIN_S
        if is_observed(left, left + BIN_S, observed[unit]):
            seen[trial, b, unit] = True
            times = spikes[unit] + 1e-7
            counts[trial, b, unit] = ((times >= left) & (times < left + BIN_S)).sum()
    return counts, seen


def aligned(values: Values, name: str) -> Array:
    """A column of times, NaN where it has no number; `DROPPED`: also where a number stands for "none"."""
    times = values.times(f"{TRIALS}/{name}")
    times = np.where(np.isfinite(times), times, np.nan)
    return without_placeholders(times) if values.arrays.get(DROPPED) else times


def without_placeholders(times: Array) -> Array:
    """NaN for 0, −1, and what is far outside of the session: no trial begins there."""
    return np.where(np.isin(times, (0, -1)) | (times < -5) | (times > 2 * END_S), np.nan, times)


def missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "U":
        return np.isin(np.char.lower(np.char.strip(values)), ("", "nan", "n/a", "na", "none", "null"))
    return np.zeros(len(values), bool)


def truth_of(values: Array) -> Array:
    """A column as yes or no."""
    if values.dtype.kind == "b":
        return values
    if values.dtype.kind not in "iuf" or not np.isin(values[np.isfinite(values.astype(float))], (0, 1)).all():
        raise Senseless("correct")
    return values == 1


def row_texts(values: Values, at: str, n_rows: int) -> list[str]:
    texts = [str(value) if isinstance(value, str | bool) else f"{value:g}" for value in values.get(at).tolist()]
    ends = values.ends(f"{at}_index", n_rows, len(texts))
    return [", ".join(texts[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def mean_rates(arrays: Arrays) -> Arrays:
    values = Values(arrays)
    spikes, n = spikes_of(values)
    origins = aligned(values, "cue_time")
    sides = values.rows(f"{TRIALS}/side", len(origins))
    kept = np.flatnonzero(np.isfinite(origins) & ~missing(sides))
    if not len(kept):
        raise Senseless("cue_time")
    levels = np.unique(sides[kept])
    codes = np.searchsorted(levels, sides[kept]).tolist()
    counts, seen = count(spikes, origins[kept], observed_of(values, n))
    rates, trials = slow_rates(counts, seen, codes, BIN_S)
    return {"side": levels.tolist(), "rate": rates, "n_trials": trials, "unit_id": values.ids(f"{UNITS}/id", n)}


def chosen_trials(arrays: Arrays) -> Arrays:
    values = Values(arrays)
    spikes, n = spikes_of(values)
    quality, depth = values.rows(f"{UNITS}/quality", n), values.rows(f"{UNITS}/depth", n)
    if quality.dtype.kind != "U" or depth.dtype.kind not in "iuf":
        raise Senseless("units")
    units = np.flatnonzero((quality == "good") & (depth < 900))
    origins = aligned(values, "start_time")
    contrast = values.rows(f"{TRIALS}/contrast", len(origins))
    if contrast.dtype.kind == "U":
        contrast = np.array(
            [_number(text) if not lost else np.nan for text, lost in zip(contrast, missing(contrast), strict=True)]
        )
        if np.isnan(contrast).any():
            raise Senseless("contrast")
    if contrast.dtype.kind not in "iufb":
        raise Senseless("contrast")
    correct = truth_of(values.rows(f"{TRIALS}/correct", len(origins)))
    kept = np.flatnonzero(correct & (contrast >= 0) & np.isfinite(origins))
    if not len(kept) or not len(units):
        raise Senseless("none is left")
    observed = observed_of(values, n)
    counts, seen = count([spikes[k] for k in units], origins[kept], [observed[k] for k in units])
    tags = row_texts(values, f"{TRIALS}/tags", len(origins))
    ids, trial = values.ids(f"{UNITS}/id", n), values.ids(f"{TRIALS}/id", len(origins))
    return {
        "count": counts, "observed": seen, "tags": [tags[k] for k in kept],
        "trial": [trial[k] for k in kept], "unit_id": [ids[k] for k in units],
    }  # fmt: skip


def around_events(arrays: Arrays) -> Arrays:
    values = Values(arrays)
    spikes, n = spikes_of(values)
    edges = (values.times(f"{TRIALS}/{edge}_time") for edge in ("start", "stop"))
    start, stop = (np.where(np.isfinite(part), part, np.nan) for part in edges)
    if values.arrays.get(DROPPED):
        start, stop = without_placeholders(start), without_placeholders(stop)
    licks = values.times(f"{LICKS}/timestamps")
    licks = np.sort(licks[np.isfinite(licks)])
    if len(start) != len(stop):
        raise Senseless("start_time")
    firsts = [licks[(licks >= a) & (licks < b)][:1].tolist() for a, b in zip(start, stop, strict=True)]
    kept = [k for k, found in enumerate(firsts) if found]
    if not kept:
        raise Senseless("licks")
    origins = np.array([firsts[k][0] for k in kept])
    counts, seen = count(spikes, origins, observed_of(values, n))
    rates, trials = slow_rates(counts, seen, [0] * len(kept), BIN_S)
    if arrays.get(f"{ELECTRODES}/location", ABSENT) is ABSENT:  # then that of the probe counts
        arrays = arrays | {f"{ELECTRODES}/location": np.array([PROBE] * 3)}
    locations = Values(arrays).get(f"{ELECTRODES}/location")
    electrodes = values.get(f"{UNITS}/electrodes")
    if electrodes.dtype.kind not in "iuf" or locations.dtype.kind not in "Uiufb":
        raise Senseless("electrodes")
    whole = np.isfinite(electrodes.astype(float)).all() and (electrodes == electrodes // 1).all()
    if not whole or (electrodes < 0).any() or (electrodes >= len(locations)).any():
        raise Senseless("electrodes")
    ends = values.ends(f"{UNITS}/electrodes_index", n, len(electrodes))
    parts = np.split(locations[electrodes.astype(int)], ends[:-1])
    texts = [", ".join(dict.fromkeys(str(name) for name in part.tolist())) for part in parts]
    if locations.dtype.kind not in "Ub":
        texts = [", ".join(dict.fromkeys(f"{value:g}" for value in part.tolist())) for part in parts]
    return {
        "rate": rates, "n_trials": trials, "location": texts, "depths": row_texts(values, f"{UNITS}/depths", n),
        "unit_id": values.ids(f"{UNITS}/id", n),
    }  # fmt: skip


def mean_samples(arrays: Arrays) -> Arrays:
    values = Values(arrays)
    data, times = values.get(f"{SERIES}/data"), values.times(f"{SERIES}/timestamps")
    if data.dtype.kind not in "iuf" or data.ndim not in (1, 2) or len(times) != len(data):
        raise Senseless(SERIES)
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise Senseless("timestamps")
    data = data.reshape(len(data), -1).astype(float) * CONVERSION
    origins = aligned(values, "cue_time")
    contrast = values.rows(f"{TRIALS}/contrast", len(origins))
    kept = np.flatnonzero(np.isfinite(origins) & ~missing(contrast))
    if not len(kept):
        raise Senseless("cue_time")
    valid = valid_of(values)
    levels = np.unique(contrast[kept])
    n = round((WINDOW_S[1] - WINDOW_S[0]) / BIN_S)
    rates = np.full((len(levels), n, data.shape[1]), np.nan)
    for c, level in enumerate(levels):
        for b in range(n):
            for neuron in range(data.shape[1]):
                found = []
                for origin in origins[kept][contrast[kept] == level]:
                    low = origin + WINDOW_S[0] + b * BIN_S
                    if not is_observed(low, low + BIN_S, valid):
                        continue
                    within = (times >= low - 1e-7) & (times < low + BIN_S - 1e-7)
                    found += data[within & np.isfinite(data[:, neuron]), neuron].tolist()
                rates[c, b, neuron] = np.mean(found) if found else np.nan
    return {"contrast": levels.tolist(), "rate": rates}


_TIME = {"window_s": WINDOW_S, "bin_s": BIN_S}
REQUESTS = {
    "mean rates": Request(
        "read_conditions", {"by": ["side"], "align": "cue_time", "missing": "keep", **_TIME}, mean_rates
    ),
    "chosen trials": Request(
        "read_trials",
        {
            "align": "start_time", "where": "correct and contrast >= 0", "columns": ["tags"],
            "units": "quality == 'good' and depth < 900", **_TIME,
        },
        chosen_trials,
    ),
    "around events": Request(
        "read_conditions",
        {"by": [{"start_time": [-1e9, 1e9]}], "align": "licks", "missing": "keep",
         "unit_columns": ["location", "depths"], **_TIME},
        around_events,
    ),
    "mean samples": Request(
        "read_conditions", {"by": ["contrast"], "align": "cue_time", "series": SERIES, "missing": "keep", **_TIME},
        mean_samples,
    ),
}  # fmt: skip


def needs_warning(arrays: Arrays) -> str:
    """Why the values of a file may not be used without a word; empty where nothing in them is odd."""
    values, odd = Values(arrays), []

    def note(reason: str, found: Callable[[], Any]) -> None:
        try:
            if bool(found()):
                odd.append(reason)
        except (Senseless, ValueError, IndexError):
            pass

    def trains() -> list[Array]:
        times = values.times(f"{UNITS}/spike_times")
        return np.split(times, values.get(f"{UNITS}/spike_times_index").astype(int)[:-1])

    def known(name: str) -> Array:
        times = values.times(f"{TRIALS}/{name}")
        return np.where(np.isfinite(times), times, np.nan)

    def start_stop() -> tuple[Array, Array]:
        return known("start_time"), known("stop_time")

    def outside() -> bool:
        start, stop = start_stop()
        cue = known("cue_time")
        return bool(((cue < start - 2) | (cue > stop + 2)).any())

    note("spike times not numbers", lambda: not np.isfinite(values.times(f"{UNITS}/spike_times")).all())
    note("spike times not sorted", lambda: any((np.diff(part) < 0).any() for part in trains()))
    note("spike times reach far beyond", lambda: max(part.max() for part in trains() if len(part)) > 100 * END_S)
    note("spike times end early", lambda: max(part.max() for part in trains() if len(part)) < 0.1 * END_S)
    note("obs_intervals", lambda: not (np.diff(values.times(f"{UNITS}/obs_intervals"), axis=1) >= 0).all())
    note(
        "invalid_times",
        lambda: not (np.subtract(*(values.times(f"{INVALID}/{n}_time") for n in ("stop", "start"))) >= 0).all(),
    )
    note("trials stop before they start", lambda: (start_stop()[1] < start_stop()[0]).any())
    note("trials all start together", lambda: len(np.unique(start_stop()[0])) == 1)
    note("cues are outside of their trials", outside)
    note("cues are missing by 0 or -1", lambda: np.isin(values.times(f"{TRIALS}/cue_time"), (0, -1)).any())
    note("unit ids twice", lambda: len(np.unique(values.get(f"{UNITS}/id"))) < len(values.get(f"{UNITS}/id")))
    return "; ".join(odd)


# --------------------------------------------------------------------------------------------- corruption of a dataset

Kind = Callable[[h5py.File, str, np.random.Generator], Any]
KINDS: dict[str, Kind] = {}
LEGAL: set[str] = set()  # kinds after which a file says the same, in a way that NWB files do


def kind(name: str, *, legal: bool = False) -> Callable[[Kind], Kind]:
    def add(function: Kind) -> Kind:
        KINDS[name] = function
        if legal:
            LEGAL.add(name)
        return function

    return add


def is_times(at: str) -> bool:
    return TRUTH[at].dtype.kind == "f"


def need(true: bool) -> None:
    if not true:
        raise Skip


def say(at: str, stored: Any) -> Any:
    """What values of a dataset mean: flat where TRUTH is flat; SENSELESS where the shape has no meaning."""
    stored, truth = np.asarray(stored), TRUTH[at]
    if stored.dtype.kind in "SO":
        stored = np.array([v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in stored.ravel()]).reshape(
            stored.shape
        )
    if truth.ndim == 2:
        same = stored.ndim == 2 and stored.shape[1] == truth.shape[1]
        return stored if same or (at == f"{SERIES}/data" and stored.ndim in (1, 2) and stored.size) else SENSELESS
    if stored.ndim == 0 or stored.size != max(stored.shape):
        return SENSELESS
    return stored.ravel()


def store(file: h5py.File, at: str, values: Any, **how: Any) -> Any:
    put(file, at, values, **how)
    return say(at, values)


def _cast(dtype: str) -> Kind:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        values = TRUTH[at]
        values = np.arange(values.size).reshape(values.shape) % 3 if values.dtype.kind == "U" else values
        with np.errstate(all="ignore"):
            found = values.astype(dtype)
        if dtype == "g":
            put(file, at, found)
            return say(at, values.astype(float))
        return store(file, at, found)

    return function


for _dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">i8", ">u4", "f2", "f4", "f8", ">f8", "g"):
    KINDS[f"as {_dtype}"] = _cast(_dtype)


_AS_TEXTS = {
    f"{TRIALS}/tags",
    f"{UNITS}/depths",
    f"{ELECTRODES}/location",
    f"{ELECTRODES}/group_name",
}  # also of objects


def _as_other(name: str, convert: Callable[[h5py.File, Array], tuple[Any, dict]], *, meaning: bool = False) -> None:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        values = TRUTH[at]
        values = np.arange(float(values.size)).reshape(values.shape) if values.dtype.kind == "U" else values
        stored, how = convert(file, values)
        if stored is None or "of" in how:
            attributes = dict(file[at].attrs)
            del file[at]
            if stored is None:  # never written, so zeros
                how["make"](file, at)
            else:
                file.create_dataset(at, values.shape, np.dtype(how["of"]))[...] = stored
            file[at].attrs.update(attributes)
            return say(at, np.zeros(values.shape)) if meaning else SENSELESS
        put(file, at, stored, **how)
        if name.endswith("references") and at in _AS_TEXTS and "region" not in name:
            return say(at, np.full(values.shape, "" if "null" in name else "units"))
        return say(at, stored) if meaning else SENSELESS

    KINDS[name] = function


def _objects(values: Array, make: Callable[[Any], Any]) -> Array:
    found = np.empty(values.shape, object)
    for at in np.ndindex(values.shape):
        found[at] = make(values[at])
    return found


def _low_level(change: Callable[[], Any]) -> Callable[[h5py.File, Array], tuple[Any, dict]]:
    """A dataset of a type that h5py cannot name."""

    def convert(file: h5py.File, values: Array) -> tuple[Any, dict]:
        space = h5py.h5s.create_simple(values.shape)
        return None, {"make": lambda file, at: h5py.h5d.create(file.id, at.encode(), change(), space)}

    return convert


def _wide_integer() -> Any:
    made = h5py.h5t.STD_I64LE.copy()
    made.set_size(16)
    made.set_precision(128)
    return made


def _odd_float() -> Any:
    made = h5py.h5t.IEEE_F64LE.copy()
    made.set_size(16)
    return made


_as_other("complex64", lambda f, v: (v.astype("c8"), {}))
_as_other("complex128", lambda f, v: (v.astype("c16") + 1j, {}))
_as_other("bool", lambda f, v: (v.astype(bool), {}), meaning=True)
_as_other("opaque", lambda f, v: (np.ascontiguousarray(v.astype("f8")).view("V8"), {}))
_as_other("datetime", lambda f, v: (v.astype("i8").astype("M8[s]").astype(h5py.opaque_dtype("M8[s]")), {}))
_as_other("compound", lambda f, v: (np.rec.fromarrays([v, v], names="a,b"), {}))
_as_other("compound of one", lambda f, v: (np.rec.fromarrays([v], names="a"), {}))
_as_other("references", lambda f, v: (_objects(v, lambda x: f["units"].ref), {"dtype": h5py.ref_dtype}))
_as_other("null references", lambda f, v: (_objects(v, lambda x: h5py.Reference()), {"dtype": h5py.ref_dtype}))
_as_other(
    "region references",
    lambda f, v: (_objects(v, lambda x: f[f"{TRIALS}/id"].regionref[0:2]), {"dtype": h5py.regionref_dtype}),
)
_as_other("vlen of numbers", lambda f, v: (_objects(v, lambda x: np.array([x, x])), {"dtype": h5py.vlen_dtype(float)}))
_as_other("vlen of integers", lambda f, v: (_objects(v, lambda x: np.arange(2)), {"dtype": h5py.vlen_dtype("i8")}))
_as_other("array type", lambda f, v: (np.stack([v, v], -1), {"of": (v.dtype, (2,))}))
_as_other("time type", _low_level(lambda: h5py.h5t.UNIX_D32LE.copy()))
_as_other("128 bit integer", _low_level(_wide_integer))
_as_other("128 bit float", _low_level(_odd_float), meaning=True)


def _as_text(name: str, make: Callable[[str], Any], **how: Any) -> None:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        texts = [str(value) for value in TRUTH[at].ravel().tolist()]
        stored = np.array([make(text) for text in texts], dtype=object).reshape(TRUTH[at].shape)
        put(file, at, stored.astype("S24") if "fixed" in name else stored, **how)
        return say(at, np.array(texts).reshape(TRUTH[at].shape))

    KINDS[name] = function


_as_text("text", str, dtype=TEXT)
_as_text("fixed text", str.encode)
_as_text("bytes", str.encode, dtype=h5py.string_dtype("ascii"))


@kind("bytes that are not UTF-8")
def _(file, at, rng):
    stored = np.array([b"\xff\xfe%d" % (k % 3) for k in range(TRUTH[at].size)], object).reshape(TRUTH[at].shape)
    put(file, at, stored, dtype=TEXT)
    return say(at, stored)


@kind("enum")
def _(file, at, rng):
    need(not at.endswith("/id"))
    stored = (np.arange(TRUTH[at].size) % 2).astype("i1").reshape(TRUTH[at].shape)
    put(file, at, stored, dtype=h5py.enum_dtype({"no": 0, "yes": 1}, "i1"))
    return say(at, np.array(["no", "yes"])[stored])


@kind("empty texts")
def _(file, at, rng):
    stored = np.full(TRUTH[at].shape, "", object)
    put(file, at, stored, dtype=TEXT)
    return say(at, stored)


@kind("control characters in text")
def _(file, at, rng):
    stored = np.full(TRUTH[at].shape, "\x1b[2J\n\x07", object)
    put(file, at, stored, dtype=TEXT)
    return say(at, stored.astype(str))


# shapes


@kind("scalar")
def _(file, at, rng):
    return store(file, at, TRUTH[at].ravel()[0].item())


@kind("empty dataspace")
def _(file, at, rng):
    values = TRUTH[at]
    put(file, at, h5py.Empty("f8" if values.dtype.kind == "U" else values.dtype))
    return SENSELESS


@kind("no values")
def _(file, at, rng):
    return store(file, at, TRUTH[at][:0])


@kind("one more")
def _(file, at, rng):
    return store(file, at, np.concatenate([TRUTH[at], TRUTH[at][-1:]]))


@kind("one less")
def _(file, at, rng):
    return store(file, at, TRUTH[at][:-1])


@kind("column", legal=True)
def _(file, at, rng):
    need(TRUTH[at].ndim == 1 and f"{at}_index" not in TRUTH)
    return store(file, at, TRUTH[at][:, None])


@kind("row", legal=True)
def _(file, at, rng):
    need(TRUTH[at].ndim == 1 and f"{at}_index" not in TRUTH)
    return store(file, at, TRUTH[at][None])


@kind("transposed")
def _(file, at, rng):
    need(TRUTH[at].ndim == 2)
    put(file, at, TRUTH[at].T)
    return SENSELESS


@kind("two columns")
def _(file, at, rng):
    need(f"{at}_index" not in TRUTH or is_times(at))
    need(not at.startswith(ELECTRODES) and at != f"{UNITS}/depths")  # columns of lists, which are read as text
    put(file, at, np.stack([TRUTH[at]] * 2, 1))
    return SENSELESS


@kind("three dims")
def _(file, at, rng):
    need(f"{at}_index" not in TRUTH or is_times(at))
    return store(file, at, TRUTH[at].reshape(1, 1, -1) if rng.random() < 0.5 else TRUTH[at][..., None, None])


@kind("huge and never written")
def _(file, at, rng):
    how = {"compression": "gzip"} if rng.random() < 0.5 else {}
    attributes = dict(file[at].attrs)
    del file[at]
    dtype = TEXT if TRUTH[at].dtype.kind == "U" else TRUTH[at].dtype
    shape = (1 << 40, *TRUTH[at].shape[1:])
    file.create_dataset(at, shape, dtype, chunks=(1024, *shape[1:]), **how).attrs.update(attributes)
    return SENSELESS


@kind("never written")
def _(file, at, rng):
    attributes, values = dict(file[at].attrs), TRUTH[at]
    need(values.dtype.kind != "U")
    del file[at]
    fill = values.dtype.type(np.nan if values.dtype.kind == "f" and rng.random() < 0.5 else 0)
    chunks = values.shape if rng.random() < 0.5 else None
    file.create_dataset(at, values.shape, values.dtype, chunks=chunks, fillvalue=fill).attrs.update(attributes)
    return say(at, np.full(values.shape, fill))


# values


def _one(value: float) -> Kind:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        values = TRUTH[at].copy()
        need(values.dtype.kind in "iuf")
        if values.dtype.kind != "f":
            need(np.isfinite(value))
            values = values.astype("u8" if value >= 2**63 else "i8")
            need(value < 2**64)
        values[tuple(rng.integers(values.shape))] = int(value) if values.dtype.kind != "f" else value
        return store(file, at, values)

    return function


def _all(value: float) -> Kind:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        need(TRUTH[at].dtype.kind in ("f" if not np.isfinite(value) else "iuf"))
        return store(file, at, np.full(TRUTH[at].shape, value, "f8" if is_times(at) else "i8"))

    return function


for _value in (np.nan, np.inf, -np.inf, -1.0, 0.0, 2.0**63, 1e300):
    KINDS[f"one is {_value:g}"] = _one(_value)
for _value in (np.nan, np.inf, -1.0, 0.0):
    KINDS[f"all are {_value:g}"] = _all(_value)
KINDS["one is 2**31"] = _one(2.0**31)


@kind("shuffled")
def _(file, at, rng):
    return store(file, at, rng.permutation(TRUTH[at]))


@kind("reversed")
def _(file, at, rng):
    return store(file, at, TRUTH[at][::-1])


@kind("one twice")
def _(file, at, rng):
    values = TRUTH[at].copy()
    need(len(values) > 1)
    k = int(rng.integers(1, len(values)))
    values[k] = values[k - 1]
    return store(file, at, values)


@kind("times 1000")
def _(file, at, rng):
    need((is_times(at) and "time" in at) or "obs" in at)
    return store(file, at, TRUTH[at] * np.int64(1000))


@kind("divided by 1000")
def _(file, at, rng):
    need((is_times(at) and "time" in at) or "obs" in at)
    return store(file, at, TRUTH[at] / 1000)


@kind("samples of 30 kHz")
def _(file, at, rng):
    need((is_times(at) and "time" in at) or "obs" in at)
    return store(file, at, np.round(TRUTH[at] * np.int64(30_000)))


@kind("relative to trials")
def _(file, at, rng):
    need(at in (f"{UNITS}/spike_times", f"{TRIALS}/cue_time", f"{TRIALS}/stop_time", f"{LICKS}/timestamps"))
    start = TRUTH[f"{TRIALS}/start_time"]
    rows = np.maximum(np.searchsorted(start, TRUTH[at], side="right") - 1, 0)
    return store(file, at, TRUTH[at] - start[rows])


@kind("one more in an index")
def _(file, at, rng):
    need(at.endswith("_index"))
    values = TRUTH[at].astype("i8")
    values[rng.integers(len(values))] += rng.choice([-1, 1])
    return store(file, at, values)


@kind("starts for ends")
def _(file, at, rng):
    need(at.endswith("_index"))
    return store(file, at, np.concatenate([[0], TRUTH[at][:-1]]).astype(TRUTH[at].dtype))


@kind("overflowed")
def _(file, at, rng):
    need(at.endswith("_index"))
    return store(file, at, (TRUTH[at].astype("i8") * 97 % 256).astype("u1"))


@kind("halves")
def _(file, at, rng):
    need(TRUTH[at].dtype.kind in "iu")
    return store(file, at, TRUTH[at] + 0.5)


# absence and links


@kind("gone")
def _(file, at, rng):
    del file[at]
    name = at.rpartition("/")[2]
    alone = at in (f"{INVALID}/id", f"{UNITS}/id", f"{TRIALS}/id", f"{ELECTRODES}/id")
    return ABSENT if alone or (name == "data" and at.startswith(LICKS)) else SENSELESS


@kind("gone with its name")
def _(file, at, rng):
    group, _, name = at.rpartition("/")
    need("colnames" in file[group].attrs and name != "id" and not name.endswith("_index"))
    names = [text for text in file[group].attrs["colnames"] if text != name]
    file[group].attrs["colnames"] = np.array(names, TEXT)
    for part in (name, f"{name}_index"):
        if part in file[group]:
            del file[group][part]
    needed = name in ("start_time", "stop_time") or at == f"{UNITS}/spike_times"
    return SENSELESS if needed else ABSENT


@kind("group in its place")
def _(file, at, rng):
    del file[at]
    file.create_group(at)
    return SENSELESS


@kind("type in its place")
def _(file, at, rng):
    del file[at]
    file[at] = np.dtype("f8")
    return SENSELESS


@kind("dangling link")
def _(file, at, rng):
    del file[at]
    file[at] = h5py.SoftLink("/nothing/here")
    return SENSELESS


@kind("link to a group")
def _(file, at, rng):
    del file[at]
    file[at] = h5py.SoftLink(str(rng.choice(["/units", "/", "/intervals/trials"])))
    return SENSELESS


@kind("link to itself")
def _(file, at, rng):
    del file[at]
    file[at] = h5py.SoftLink(f"/{at}")
    return SENSELESS


@kind("links in a circle")
def _(file, at, rng):
    del file[at]
    file[at], file["circle"] = h5py.SoftLink("/circle"), h5py.SoftLink(f"/{at}")
    return SENSELESS


@kind("link to no file")
def _(file, at, rng):
    del file[at]
    file[at] = h5py.ExternalLink("nowhere.h5", f"/{at}")
    return SENSELESS


@kind("link to nothing in a file")
def _(file, at, rng):
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other["x"] = 1
    del file[at]
    file[at] = h5py.ExternalLink("other.h5", f"/{at}")
    return SENSELESS


@kind("link to another file")
def _(file, at, rng):
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        file.copy(file[at], other, "x", expand_refs=False)
    del file[at]
    file[at] = h5py.ExternalLink("other.h5", "/x")
    return SENSELESS


@kind("soft link", legal=True)
def _(file, at, rng):
    file.move(at, "moved")
    file[at] = h5py.SoftLink("/moved")
    return TRUTH[at]


@kind("two names", legal=True)
def _(file, at, rng):
    file["another"] = file[at]
    return TRUTH[at]


@kind("compressed", legal=True)
def _(file, at, rng):
    return store(
        file, at, TRUTH[at], chunks=True, compression="gzip", shuffle=True, fletcher32=TRUTH[at].dtype.kind != "U"
    )


@kind("virtual without a source")
def _(file, at, rng):
    attributes, values = dict(file[at].attrs), TRUTH[at]
    need(values.dtype.kind != "U")
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource("nowhere.h5", "x", values.shape, values.dtype)
    del file[at]
    file.create_virtual_dataset(at, layout, fillvalue=0).attrs.update(attributes)
    return SENSELESS


@kind("virtual, half of it without a source")
def _(file, at, rng):
    attributes, values = dict(file[at].attrs), TRUTH[at]
    need(values.dtype.kind != "U" and len(values) > 3)
    with h5py.File(Path(file.filename).with_name("part.h5"), "w") as other:
        other["x"] = values
    half = len(values) // 2
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:half] = h5py.VirtualSource("part.h5", "x", values.shape, values.dtype)[:half]
    layout[half:] = h5py.VirtualSource("nowhere.h5", "x", values.shape, values.dtype)[half:]
    del file[at]
    file.create_virtual_dataset(at, layout, fillvalue=0).attrs.update(attributes)
    return SENSELESS


@kind("bytes in another file")
def _(file, at, rng):
    attributes, values = dict(file[at].attrs), TRUTH[at]
    values = values.astype("S") if values.dtype.kind == "U" else values
    raw = Path(file.filename).with_name("raw.bin")
    if rng.random() < 0.5:
        raw.write_bytes(values.tobytes())
    del file[at]
    external = [(str(raw), 0, values.nbytes)]
    file.create_dataset(at, values.shape, values.dtype, external=external).attrs.update(attributes)
    return SENSELESS


# attributes: those of the dataset, or of the table that names it

_ODD_ATTRIBUTES: dict[str, Callable[[h5py.File], Any]] = {
    "number": lambda file: 3,
    "text": lambda file: "odd",
    "bytes that are not UTF-8": lambda file: np.array([b"\xff\xfe", b"\x00"]),
    "empty": lambda file: h5py.Empty("f8"),
    "null reference": lambda file: np.array([h5py.Reference()], h5py.ref_dtype),
    "reference": lambda file: file["units"].ref,
    "compound": lambda file: np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "complex": lambda file: 1j,
    "numbers": lambda file: np.arange(6.0).reshape(2, 3),
    "texts": lambda file: np.array(["x", "y"], TEXT),
    "NaN": lambda file: np.nan,
    "opaque": lambda file: np.void(b"12345678"),
}


def _attribute(what: str, value: Callable[[h5py.File], Any] | None) -> Kind:
    def function(file: h5py.File, at: str, rng: np.random.Generator) -> Any:
        owners = [file[at], file[at].parent, file]
        names = [(owner, name) for owner in owners for name in owner.attrs if name != "nwb_version"]
        owner, name = names[rng.integers(len(names))]
        if value is None:
            del owner.attrs[name]
        else:
            owner.attrs[name] = value(file)
        if name == "conversion" and at.startswith(SERIES):
            if value is None:
                return CONVERTED
            return SENSELESS
        return TRUTH[at]

    return function


CONVERTED = object()  # the conversion of the series is gone
KINDS["attribute gone"] = _attribute("gone", None)
for _name, _make in _ODD_ATTRIBUTES.items():
    KINDS[f"attribute: {_name}"] = _attribute(_name, _make)


def corrupted(file: h5py.File, at: str, name: str, seed: int) -> Arrays:
    """Corrupt a dataset of an open file, and return what the file says then."""
    found = KINDS[name](file, at, np.random.default_rng(seed))
    if found is CONVERTED:
        return TRUTH | {f"{SERIES}/data": TRUTH[f"{SERIES}/data"] / CONVERSION}
    if found is SENSELESS and "attribute" in name:
        return TRUTH | {f"{SERIES}/data": SENSELESS}
    changed = {at: found}
    if found is ABSENT and f"{at}_index" in TRUTH:
        changed[f"{at}_index"] = ABSENT
    return TRUTH | changed

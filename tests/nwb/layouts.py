"""A small file for every layout that the archive is known to hold, and what reading it must give, from plain loops.

Each builder writes a file with h5py alone and returns a `Case` made of what it wrote, never of what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import numpy as np

Array = np.ndarray
N_TRIALS = 10


class Case(NamedTuple):
    """How to read a file, and what must come of it.

    ``origins`` (NaN: dropped) and ``conditions`` ('': no condition) are of every row that ``rows`` selects, in
    the order of the table. ``warns`` and ``refuses`` are patterns of messages.
    """

    spikes: list[Array]
    origins: Array
    how: dict[str, Any]
    by: Sequence[Any] = ()
    conditions: Sequence[str] = ()
    obs: list[Any] | None = None
    ids: list[int] | None = None
    coords: Mapping[str, list] = MappingProxyType({})
    unit_coords: Mapping[str, list] = MappingProxyType({})
    within: list[tuple[float, float]] | None = None
    seconds: Array | None = None
    infer: bool = False
    warns: str = ""
    refuses: str = ""


LAYOUTS: dict[str, Callable[[Path], Case]] = {}


def layout(build: Callable[[Path], Case]) -> Callable[[Path], Case]:
    LAYOUTS[build.__name__.removeprefix("of_")] = build
    return build


class Session:
    """Spikes and trials that every layout begins with, and a file that its columns are put in."""

    def __init__(self, path: Path, *, n_units: int = 2, units: bool = True, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.start = np.round(1 + 2 * np.arange(N_TRIALS) + rng.uniform(0, 0.1, N_TRIALS), 4)
        self.stop = self.start + 1.5
        self.cue = np.round(self.start + 0.5 + rng.uniform(0, 0.1, N_TRIALS), 4)
        end = 1 + 2 * N_TRIALS
        self.spikes = [np.round(np.sort(rng.uniform(0, end, rng.poisson(12 * end))), 5) for _ in range(n_units)]
        self.path = path
        with h5py.File(path, "w") as file:
            file.attrs["nwb_version"] = "2.1.0"
            file["identifier"] = path.stem
            file.create_group("intervals")
        if units:
            self.put_units(self.spikes)

    def put_units(self, spikes: list[Array], ids: Any = None, obs: list[Array] | None = None) -> None:
        ends = np.cumsum([len(times) for times in spikes])
        dtype = np.uint8 if ends[-1] < 256 else np.uint16
        self.put("units/spike_times", np.concatenate(spikes))
        self.put("units/spike_times_index", ends.astype(dtype))
        self.put("units/id", np.arange(len(spikes)) if ids is None else ids)
        if obs is not None:
            self.put("units/obs_intervals", np.concatenate(obs))
            self.put("units/obs_intervals_index", np.cumsum([len(part) for part in obs]).astype(np.uint8))

    def put(self, at: str, values: Any, **attrs: Any) -> None:
        with h5py.File(self.path, "r+") as file:
            if at in file:
                del file[at]
            if isinstance(values, list) and isinstance(values[0], str):
                file.create_dataset(at, data=np.array(values, object), dtype=h5py.string_dtype())
            else:
                file.create_dataset(at, data=values)
            file[at].attrs.update(attrs)

    def put_table(self, name: str = "intervals/trials", rows: slice = slice(None), **columns: Any) -> None:
        """An interval table with start and stop and these columns; a name's __ stands for a dot."""
        table = {"start_time": self.start[rows], "stop_time": self.stop[rows]} | columns
        table = {key.replace("__", "."): values for key, values in table.items()}
        self.put(f"{name}/id", np.arange(len(table["start_time"])))
        for key, values in table.items():
            self.put(f"{name}/{key}", values)
        with h5py.File(self.path, "r+") as file:
            file[name].attrs["colnames"] = np.array([k for k in table if not k.endswith(("_index", "_elements"))], "S")

    def case(self, origins: Array | None = None, **given: Any) -> Case:
        how = {"window_s": (-0.2, 0.6), "bin_s": 0.2} | given.pop("how", {})
        return Case(given.pop("spikes", self.spikes), self.cue if origins is None else origins, how, **given)


def write_plain(path: Path, spikes: list[Array], obs: list[Array] | None = None, **columns: Any) -> Path:
    """A file of nothing but units and trials with these columns, in a hundredth of the time that pynwb takes."""
    session = Session(path, units=False)
    session.put_units(spikes, obs=obs)
    session.put_table(**columns)
    return path


def alternate(*words: str) -> list[str]:
    return [words[k % len(words)] for k in range(N_TRIALS)]


def bytes_of(words: list[str]) -> Array:
    return np.array(words, "S")


def labels(column: str, values: list) -> list[str]:
    return [f"{column}={value}" for value in values]


@layout
def of_000004(path):
    s = Session(path)
    phase, seen = alternate("recog", "learn"), alternate("0", "0", "1")
    s.put_table(stim_on_time=s.cue, stim_phase=phase, new_old_labels_recog=seen, response_time=s.stop - 0.1)
    both = [f"stim_phase={a}, new_old_labels_recog={b}" for a, b in zip(phase, seen, strict=True)]
    return s.case(by=["stim_phase", "new_old_labels_recog"], conditions=both, how={"align": "stim_on_time"})


@layout
def of_000004_milliseconds(path):
    s = Session(path)
    s.put_units([times * 1000 for times in s.spikes])
    s.put_table(stim_on_time=s.cue)
    return s.case(
        spikes=[times * 1000 for times in s.spikes], how={"align": "stim_on_time"},
        warns=r"span .*–2\d{4}\S* s, .*20\.\d+ s\. .*1\.0\d?e\+03 times .*milliseconds or samples",
    )  # fmt: skip


@layout
def of_000009_bytes_and_missing_cues(path):
    s = Session(path)
    cue = np.where(np.arange(N_TRIALS) % 4 == 3, np.nan, s.cue)
    side, answer = alternate("lick left", "lick right"), alternate("correct", "correct", "incorrect")
    power = alternate("N/A", "1.5")
    s.put_table(
        type=bytes_of(side), response=bytes_of(answer), is_good=np.ones(N_TRIALS, np.int32),
        stim_present=np.zeros(N_TRIALS, np.int32), pole_in_time=s.start + 0.1, pole_out_time=s.start + 0.3,
        cue_start_time=cue, photo_stim_power=bytes_of(power),
    )  # fmt: skip
    both = [f"type={a}, response={b}" for a, b in zip(side, answer, strict=True)]
    return s.case(
        cue, by=["type", "response"], conditions=both,
        how={"align": "cue_start_time", "where": "is_good and not stim_present == 1"},
        coords={"photo_stim_power": power},
    )  # fmt: skip


@layout
def of_000010_obs_intervals_per_trial(path):
    s = Session(path)
    trials = np.stack([s.start, s.stop], axis=1)
    obs = [trials, trials[2:7]]
    inside = [((t[:, None] >= o[:, 0]) & (t[:, None] <= o[:, 1])).any(axis=1)
              for t, o in zip(s.spikes, obs, strict=True)]  # fmt: skip
    spikes = [times[keep] for times, keep in zip(s.spikes, inside, strict=True)]
    s.put_units(spikes, obs=obs)
    kind = alternate("L", "R")
    s.put_table(trial_type=kind)
    return s.case(
        s.start, spikes=spikes, obs=obs, by=["trial_type"], conditions=labels("trial_type", kind),
        how={"align": "start_time", "window_s": (-0.2, 1.6)},
    )  # fmt: skip


@layout
def of_000013_trials_without_units(path):
    s = Session(path, units=False)
    s.put_table()
    return s.case(how={"align": "start_time"}, refuses="has no units table")


@layout
def of_000017_narrow_columns(path):
    s = Session(path)
    included = (np.arange(N_TRIALS) % 5 != 0)[:, None]
    contrast = np.resize([0.0, 0.25, 1.0], (N_TRIALS, 1))
    s.put_table(visual_stimulus_time=s.cue[:, None], included=included, visual_stimulus_left_contrast=contrast)
    s.put_table("intervals/spontaneous", slice(0, 3))
    kept = included[:, 0]
    return s.case(
        s.cue[kept], how={"align": "visual_stimulus_time", "where": "included"},
        by=["visual_stimulus_left_contrast"],
        conditions=labels("visual_stimulus_left_contrast", [f"{c:g}" for c in contrast[kept, 0]]),
    )  # fmt: skip


@layout
def of_000128_mazes(path):
    s = Session(path)
    maze = np.arange(N_TRIALS) % 3
    barrier = np.arange(4.0 * 2 * N_TRIALS).reshape(-1, 4)  # two barriers of four numbers in every trial
    targets = np.array([[1.5, -2.0], [0.25, 3.0]] * N_TRIALS)
    s.put_units(s.spikes)
    s.put("units/heldout", np.array([False, True]))
    s.put_table(
        split=alternate("train", "val"), trial_type=maze, maze_id=maze + 7, success=np.ones(N_TRIALS, bool),
        target_on_time=s.start + 0.1, go_cue_time=s.cue, move_onset_time=s.cue + 0.2,
        barrier_pos=barrier, barrier_pos_index=(2 * np.arange(1, N_TRIALS + 1)).astype(np.uint8),
        target_pos=targets[:, 0], target_pos_index=np.arange(1, 2 * N_TRIALS + 1, dtype=np.uint8),
        target_pos_index_index=(2 * np.arange(1, N_TRIALS + 1)).astype(np.uint8),
    )  # fmt: skip
    rows = [[", ".join(f"{v:g}" for v in barrier[2 * k + j]) for j in (0, 1)] for k in range(N_TRIALS)]
    return s.case(
        s.cue[0::2], how={"align": "go_cue_time", "where": "split == 'train' and success"},
        by=["maze_id"], conditions=labels("maze_id", (maze + 7)[0::2].tolist()),
        coords={"barrier_pos": ["; ".join(pair) for pair in rows][0::2], "target_pos": ["1.5; 0.25"] * 5},
        unit_coords={"heldout": [False, True]},
    )  # fmt: skip


@layout
def of_000129_split_only(path):
    s = Session(path)
    split = ["train"] * 6 + ["val"] * 3 + ["none"]
    s.put_table(split=split)
    return s.case(s.start, by=["split"], conditions=labels("split", split), how={"align": "start_time"})


@layout
def of_000221_one_hot(path):
    s = Session(path)
    hit = (np.arange(N_TRIALS) % 2).astype(np.uint8)
    s.put("units/depths", np.array([10.0, 20.0, 30.0]))
    s.put("units/depths_index", np.array([2, 3], np.uint8))
    s.put("units/waveform_mean", np.arange(12.0).reshape(2, 2, 3))
    s.put_table(SampleOnset=s.start + 0.1, DelayOnset=s.start + 0.3, CueTime=s.cue, HitL=hit, HitR=1 - hit)
    return s.case(
        s.cue[hit == 1], how={"align": "CueTime", "where": "HitL"}, by=["HitR"],
        conditions=["HitR=0"] * int(hit.sum()),
        unit_coords={"depths": ["10, 20", "30"],
                     "waveform_mean": ["0, 1, 2; 3, 4, 5", "6, 7, 8; 9, 10, 11"]},
    )  # fmt: skip


@layout
def of_000253_presentations(path):
    s = Session(path)
    shown = [f"{v}.0" for v in alternate("0", "45", "90")]
    s.put_table("intervals/drifting_gratings_presentations", orientation=shown, contrast=alternate("0.8", "null"))
    s.put_table("intervals/flashes_presentations", slice(0, 4), color=[1.0, -1.0, 1.0, -1.0])
    bad = (s.start[4] - 0.1, s.start[4] + 0.3)
    s.put("intervals/invalid_times/start_time", [bad[0]])
    s.put("intervals/invalid_times/stop_time", [bad[1]])
    s.put("intervals/invalid_times/id", [0])
    table = "drifting_gratings_presentations"
    return s.case(
        s.start, how={"align": "start_time", "table": table, "where": "orientation < 91"},
        obs=[[(-100.0, bad[0]), (bad[1], 100.0)]] * 2, by=[{"orientation": "rank"}],
        conditions=labels("orientation", alternate("0", "1", "2")),
    )  # fmt: skip


@layout
def of_000253_without_trials(path):
    s = Session(path)
    s.put_table("intervals/flashes_presentations", color=np.ones(N_TRIALS))
    s.put_table("intervals/gabors_presentations", slice(0, 3))
    message = r"no interval table 'trials'.*flashes_presentations \(10 rows\), gabors_presentations \(3 rows\)"
    return s.case(how={"align": "start_time"}, refuses=message)


@layout
def of_000253_several_tables_at_once(path):
    s = Session(path)
    even, odd = np.arange(N_TRIALS)[0::2], np.arange(N_TRIALS)[1::2]
    s.put_table("intervals/flashes", even, color=[1.0, -1.0, 1.0, -1.0, 1.0], start_time=s.start[0::2],
                stop_time=s.stop[0::2])  # fmt: skip
    s.put_table("intervals/gabors", odd, x=["a", "b", "a", "b", "a"], start_time=s.start[1::2], stop_time=s.stop[1::2])
    which = alternate("flashes", "gabors")
    colors = np.full(N_TRIALS, np.nan)
    colors[0::2] = [1.0, -1.0, 1.0, -1.0, 1.0]
    own = np.repeat(np.arange(5), 2).tolist()
    return s.case(
        s.start, how={"align": "start_time", "table": ["gabors", "flashes"]}, by=["table"],
        conditions=labels("table", which),
        coords={"table": which, "color": colors.tolist(), "table_id": own,
                "x": ["", "a", "", "b", "", "a", "", "b", "", "a"]},
    )  # fmt: skip


@layout
def of_000149_names_with_dots(path):
    s = Session(path)
    choice = np.resize([-1, 1], N_TRIALS)
    s.put_table(goCue_times__npy=s.cue, response_choice__npy=choice)
    how = {"align": "goCue_times.npy", "where": "`response_choice.npy` in (-1, 1)"}
    name = "response_choice.npy"
    return s.case(by=[name], conditions=labels(name, choice.tolist()), how=how)


@layout
def of_000207_electrodes_without_index(path):
    s = Session(path)
    s.put_table("intervals/encoding_table", stimulus=alternate("clip 1", "clip 2"))
    s.put_table("intervals/recognition_table", slice(0, 4))
    s.put("general/extracellular_ephys/electrodes/id", np.arange(3))
    s.put("general/extracellular_ephys/electrodes/location", ["amygdala", "hippocampus", "cortex"])
    s.put("general/extracellular_ephys/electrodes/x", np.array([1.0, 2.0, 3.0]))
    s.put("units/electrodes", np.array([2, 0]))
    return s.case(
        s.start, how={"align": "start_time", "table": "encoding_table"}, by=["stimulus"],
        conditions=labels("stimulus", alternate("clip 1", "clip 2")),
        unit_coords={"location": ["cortex", "amygdala"], "x": [3.0, 1.0]},
    )  # fmt: skip


@layout
def of_000363_events_in_acquisition(path):
    s = Session(path)
    onset = alternate("N/A", "0.5")
    s.put_table(photostim_onset=onset, photostim_power=alternate("N/A", "1.2"))
    events = np.sort(np.concatenate([s.cue[:-2], s.cue[:4] + 0.2, s.stop[:-1] + 0.1]))  # the last two have none
    s.put("acquisition/BehavioralEvents/go_start_times/timestamps", events)
    s.put("acquisition/BehavioralEvents/left_lick_times/timestamps", s.cue + 0.3)
    s.put("acquisition/BehavioralEvents/go_start_times/data", np.ones(len(events)))
    origins = np.array([next((t for t in events if a <= t < b), np.nan)
                        for a, b in zip(s.start, s.stop, strict=True)])  # fmt: skip
    return s.case(
        origins, how={"align": "go_start_times"}, by=["photostim_onset"],
        conditions=["" if text == "N/A" else f"photostim_onset={text}" for text in onset],
        warns="",
    )  # fmt: skip


@layout
def of_000363_comma_lists(path):
    s = Session(path)
    onset = alternate("N/A", "0.5,1.2")
    s.put_table(photostim_onset=onset)
    message = r"photostim_onset of .* lists of numbers, such as '0\.5,1\.2', in 5 of 10 trials"
    return s.case(how={"align": "photostim_onset"}, refuses=message)


@layout
def of_000363_comma_lists_as_texts(path):
    s = Session(path)
    onset = alternate("0.5", "0.5,1.2")
    s.put_table(photostim_onset=onset)
    return s.case(
        s.start, by=["photostim_onset"], conditions=labels("photostim_onset", onset), how={"align": "start_time"},
        coords={"photostim_onset": onset},
    )  # fmt: skip


@layout
def of_000409_wheel(path):
    s = Session(path)
    choice = alternate("clockwise", "counterclockwise", "no_go")
    prior = np.resize([0.2, 0.8], N_TRIALS)
    s.put_table(
        gabor_stimulus_onset_time=s.cue, gabor_stimulus_contrast=np.ones(N_TRIALS), mouse_wheel_choice=choice,
        feedback_time=s.stop - 0.1, probability_left=prior,
    )  # fmt: skip
    kept = np.array([word != "no_go" for word in choice])
    pairs = [f"mouse_wheel_choice={a}, probability_left={b:g}" for a, b in zip(choice, prior, strict=True)]
    return s.case(
        s.cue[kept], how={"align": "gabor_stimulus_onset_time", "where": "mouse_wheel_choice != 'no_go'"},
        by=["mouse_wheel_choice", "probability_left"], conditions=[p for p, k in zip(pairs, kept, strict=True) if k],
    )  # fmt: skip


@layout
def of_000003_times_start_over(path):
    s = Session(path)
    half = s.stop[-1] / 2
    s.put_units([np.where(times < half, times, times - half) for times in s.spikes])
    s.put_table()
    message = r"unit 0 start over \(1 of \d+ steps go back, the first from 10\.\d+ to 0\.\d+ s\) and end at 10\.\d+ s"
    return s.case(how={"align": "start_time"}, refuses=message)


@layout
def of_000003_times_start_over_in_every_trial(path):
    s = Session(path)
    spikes = [[t - a for a, b in zip(s.start, s.stop, strict=True) for t in times if a <= t < b] for times in s.spikes]
    s.put_units([np.array(times) for times in spikes])
    s.put_table()
    message = r"unit 0 start over \(9 of \d+ steps go back.*relative to trials or blocks"
    return s.case(how={"align": "start_time"}, refuses=message)


@layout
def of_001610_negative_and_relative(path):
    s = Session(path)
    since = [np.concatenate([times[(times >= c - 0.5) & (times < c + 1)] - c for c in s.cue]) for times in s.spikes]
    s.start, s.stop, s.cue = (np.concatenate([t, t + 50]) for t in (s.start, s.stop, s.cue))
    s.put_units([np.sort(times) for times in since])
    s.put_table()
    message = r"span -0\.\d+–(1|0\.\d+) s, .* 1\.5 s .* 70\.\d* s.* 1 of 20 windows"
    return s.case(how={"align": "start_time", "window_s": (-1, 1)}, refuses=message + ".*look relative")


@layout
def of_times_relative_to_trials(path):
    s = Session(path)
    since = [np.sort(np.concatenate([t[(t >= a) & (t < b)] - a for a, b in zip(s.start, s.stop, strict=True)]))
             for t in s.spikes]  # fmt: skip
    s.put_units(since)
    s.put_table()
    message = r"span 0\.\d+–1\.\d+ s, .* 1\.5 s .* 20\.\d* s.* 1 of 10 windows.*look relative"
    return s.case(s.start, spikes=since, how={"align": "start_time", "window_s": (-0.2, 1.4)}, warns=message)


@layout
def of_one_unit_in_milliseconds(path):
    s = Session(path)
    spikes = [s.spikes[0] * 1000, s.spikes[1]]
    s.put_units(spikes)
    s.put_table()
    return s.case(s.start, spikes=spikes, how={"align": "start_time"}, warns="only unit 0")


@layout
def of_000239_overlapping_obs_intervals(path):
    s = Session(path)
    obs = [np.array([[0.0, 9.0], [5.0, 12.0], [14.0, 30.0]]), np.array([[0.0, 30.0]])]
    spikes = [times[(times < 12) | (times > 14)] if k == 0 else times for k, times in enumerate(s.spikes)]
    s.put_units(spikes, obs=obs)
    s.put_table()
    message = r"obs_intervals of unit 0 overlap \(4 of 32 s .*union is taken"
    return s.case(s.start, spikes=spikes, obs=obs, how={"align": "start_time"}, warns=message)


@layout
def of_ids_in_any_order(path):
    s = Session(path, n_units=3)
    s.put_units(s.spikes, ids=np.array([41, 7, 1000], np.int32))
    s.put("units/quality", ["good", "mua", "good"])
    s.put_table()
    return s.case(
        s.start, spikes=[s.spikes[2], s.spikes[0]], ids=[1000, 41], how={"align": "start_time", "units": [1000, 41]},
        unit_coords={"quality": ["good", "good"]},
    )  # fmt: skip


@layout
def of_a_unit_without_spikes(path):
    s = Session(path)
    spikes = [s.spikes[0], np.array([]), s.spikes[1]]
    s.put_units(spikes)
    s.put_table()
    return s.case(s.start, spikes=spikes, how={"align": "start_time"})


@layout
def of_no_spike_times(path):
    s = Session(path, units=False)
    s.put("units/id", [0, 1])
    s.put("units/quality", ["good", "mua"])
    s.put_table()
    return s.case(how={"align": "start_time"}, refuses="no spike_times .*quality")


@layout
def of_enums(path):
    s = Session(path)
    words = alternate("left", "right", "none")
    codes = np.array([["left", "none", "right"].index(word) for word in words], np.uint8)
    s.put_table(side=codes, side_elements=bytes_of(["left", "none", "right"]))
    return s.case(
        by=["side"], conditions=labels("side", words), coords={"side": words}, how={"align": "start_time"},
        origins=s.start,
    )  # fmt: skip


@layout
def of_times_as_texts(path):
    s = Session(path)
    texts = [f"{t:.4f}" for t in s.cue]
    texts[2], texts[5], texts[7] = "N/A", "late", ""
    s.put_table(cue=texts)
    origins = s.cue.copy()
    origins[[2, 5, 7]] = np.nan
    return s.case(origins, how={"align": "cue"})


@layout
def of_epochs_at_the_root(path):
    s = Session(path)
    s.put_table("epochs", tag=alternate("a", "b"))
    how = {"align": "start_time", "table": "epochs"}
    return s.case(s.start, by=["tag"], conditions=labels("tag", alternate("a", "b")), how=how)


@layout
def of_epochs_with_ragged_tags(path):
    s = Session(path)
    s.put_table("intervals/epochs", tags=["x", "y"] * 5 + ["z"] * 5, tags_index=[2, 4, 6, 8, 10, 11, 12, 13, 14, 15])
    tags = ["x, y"] * 5 + ["z"] * 5
    return s.case(s.start, coords={"tags": tags}, how={"align": "start_time", "table": "epochs"})


@layout
def of_a_regular_event_series(path):
    s = Session(path)
    s.put_table()
    s.put("processing/behavior/pulses/starting_time", 0.25, rate=0.5)
    s.put("processing/behavior/pulses/data", np.ones(8))
    pulses = 0.25 + np.arange(8) / 0.5
    s.put("intervals/trials/stop_time", s.start + 1.3)
    origins = np.array([next((t for t in pulses if a <= t < a + 1.3), np.nan) for a in s.start])
    return s.case(origins, how={"align": "processing/behavior/pulses"})


@layout
def of_an_events_table(path):
    s = Session(path)
    s.put_table()
    s.put("events/go_cues/id", np.arange(N_TRIALS))
    s.put("events/go_cues/timestamp", s.cue[::-1].copy())
    s.put("events/go_cues/value", np.ones(N_TRIALS))
    return s.case(how={"align": "go_cues"})


@layout
def of_two_event_series_of_one_name(path):
    s = Session(path)
    s.put_table()
    for place in ("acquisition/a", "processing/behavior/b"):
        s.put(f"{place}/go/timestamps", s.cue)
    message = "2 event series named 'go': acquisition/a/go, processing/behavior/b/go"
    return s.case(how={"align": "go"}, refuses=message)


@layout
def of_no_such_event(path):
    s = Session(path)
    s.put_table(cue_time=s.cue)
    s.put("acquisition/licks/timestamps", s.cue)
    message = "no column 'go' for align.*start_time, stop_time, cue_time; event series: acquisition/lic"
    return s.case(how={"align": "go"}, refuses=message)


@layout
def of_electrode_groups(path):
    s = Session(path)
    for name in ("shank0", "shank1"):
        s.put(f"general/extracellular_ephys/{name}/note", [1.0])
    with h5py.File(path, "r+") as file:
        groups = [file[f"general/extracellular_ephys/{name}"].ref for name in ("shank1", "shank0")]
        file.create_dataset("units/electrode_group", data=np.array(groups, h5py.ref_dtype), dtype=h5py.ref_dtype)
    electrodes = "general/extracellular_ephys/electrodes"
    s.put(f"{electrodes}/id", np.arange(4) + 100)
    s.put(f"{electrodes}/location", ["CA1", "CA3", "CA1", "DG"])
    s.put(f"{electrodes}/filtering", ["a", "a", "a", "b"])
    s.put("units/electrodes", np.array([0, 2, 3, 1, 2], np.int32))
    s.put("units/electrodes_index", np.array([3, 5], np.uint8))
    s.put_table()
    return s.case(
        s.start, how={"align": "start_time"},
        unit_coords={"electrode_group": ["shank1", "shank0"], "location": ["CA1, DG", "CA3, CA1"],
                     "filtering": ["a, b", "a"]},
    )  # fmt: skip


@layout
def of_trials_that_stop_before_they_start(path):
    s = Session(path)
    stop = s.stop.copy()
    stop[[3, 6]] = s.start[[3, 6]] - 0.5
    s.put_table(stop_time=stop)
    message = rf"2 of 10 trials stop before they start \(the first has id 3: {s.start[3]:g} to {stop[3]:g} s\)"
    return s.case(s.start, how={"align": "start_time"}, warns=message)


@layout
def of_trials_of_no_length(path):
    s = Session(path)
    s.put_table(stop_time=s.start)
    return s.case(s.start, how={"align": "start_time"}, warns="10 of 10 trials last 0 s")


@layout
def of_unsorted_spikes(path):
    s = Session(path)
    merged = np.concatenate([s.spikes[0][::2], s.spikes[0][1::2]])  # two clusters, one after the other
    s.put_units([merged, s.spikes[1]])
    s.put_table()
    message = r"spike_times of unit 0 .*not in order \(1 of \d+ steps go back, the first from 2\d.* to 0\.\d+ s\)"
    return s.case(s.start, how={"align": "start_time"}, warns=message)


@layout
def of_trials_in_samples(path):
    s = Session(path)
    s.start, s.stop = s.start * 30000, s.stop * 30000
    s.put_table()
    message = r"no window meets the recording: .*2\d\.?\d* s, the windows .* One is 2\.\d+e\+04 times the other"
    return s.case(how={"align": "start_time"}, refuses=message)


@layout
def of_a_unit_that_stops(path):
    s = Session(path)
    spikes = [s.spikes[0][s.spikes[0] < 8.2], s.spikes[1]]
    s.put_units(spikes)
    s.put_table()
    message = r"silent unit 0 after 8 s \(6 trials later\), of 10 trials, and there are no obs_intervals"
    return s.case(s.start, spikes=spikes, how={"align": "start_time"}, warns=message)


@layout
def of_a_unit_that_stops_inferred(path):
    s = Session(path)
    spikes = [s.spikes[0][s.spikes[0] < 8.2], s.spikes[1][s.spikes[1] > 6], np.array([])]
    s.put_units(spikes)
    s.put_table()
    return s.case(s.start, spikes=spikes, infer=True, how={"align": "start_time", "infer_obs": True})


@layout
def of_a_function_of_the_table(path):
    s = Session(path)
    s.put_table(cue_time=s.cue, delay=alternate("0.1,0.5", "N/A"))

    def cue_and_delay(rows):
        delay = np.array([float(text.split(",")[0]) if "," in text else np.nan for text in rows["delay"]])
        return rows["cue_time"] + delay

    origins = s.cue + np.where(np.arange(N_TRIALS) % 2 == 0, 0.1, np.nan)
    return s.case(origins, how={"align": cue_and_delay})


@layout
def of_trials_of_different_length(path):
    s = Session(path)
    lasts = np.round(np.random.default_rng(1).uniform(0.4, 1.5, N_TRIALS), 3)
    s.put_table(stop_time=s.start + lasts)
    limits = list(zip(s.start, s.start + lasts, strict=True))
    how = {"align": "start_time", "window_s": (-0.2, 1.4), "within": ("start_time", "stop_time")}
    return s.case(s.start, within=limits, how=how)


@layout
def of_delays_of_different_length(path):
    s = Session(path)
    go = np.round(s.cue + np.random.default_rng(2).uniform(0.2, 1.2, N_TRIALS), 3)
    go[4], go[6] = np.nan, s.cue[6] - 0.1
    side = alternate("left", "right")
    s.put_table(cue_time=s.cue, go_time=go, side=side)
    how = {"align": "cue_time", "warp": ("cue_time", "go_time"), "window_s": (-0.4, 1.2)}
    return s.case(by=["side"], conditions=labels("side", side), seconds=go, how=how)

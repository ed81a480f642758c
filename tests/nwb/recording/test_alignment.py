"""What trials are aligned to: expressions, tables of events, labelled events, and one of several times of a trial."""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from nwb_lint import read_conditions, read_fit, read_trials
from nwb_lint.cli import app
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.suggest import suggest
from tests.nwb.layouts import N_TRIALS, Session, alternate
from tests.nwb.oracle import slow_counts

HOW = {"window_s": (-0.2, 0.4), "bin_s": 0.2}
ROWS = np.arange(N_TRIALS)
SIDE = alternate("left", "right")


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path / "s.nwb")


def aligned_to(session, origins, **how):
    """The counts are those of these times (NaN: dropped), and nothing is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_trials(session.path, **HOW | how)
    kept = np.isfinite(origins)
    np.testing.assert_array_equal(found["count"], slow_counts(session.spikes, origins[kept], (-0.2, 0.4), 0.2)[0])
    assert found.attrs["n_trials_dropped_align"] == (~kept).sum()
    return found


# ------------------------------------------------------------------------------------------------------ expressions


@pytest.mark.parametrize(
    ("expression", "origins"),
    [("start_time + delay", lambda s: s.start + 0.5), ("cue_time - 0.1", lambda s: s.cue - 0.1),
     ("`go.cue` / 1000", lambda s: s.cue), ("start_time + late / 1000", lambda s: s.start + 0.3),
     ("(start_time + stop_time) / 2", lambda s: s.start + 0.75)],
)  # fmt: skip
def test_an_expression_over_columns_gives_the_time(session, expression, origins):
    session.put_table(
        cue_time=session.cue, delay=np.full(N_TRIALS, 0.5), go__cue=1000 * session.cue, late=np.full(N_TRIALS, 300),
        side=SIDE,
    )  # fmt: skip
    found = aligned_to(session, origins(session), align=expression)
    assert found.attrs["align"] == expression
    read_conditions(session.path, **HOW, align=expression, by="side")
    limited = read_trials(session.path, **HOW, align="cue_time", within=("start_time", "start_time + delay"))
    assert not limited["observed"].values.all()


def test_an_expression_has_no_time_where_a_column_has_none(session):
    cue = np.where(ROWS % 4, session.cue - session.start, np.nan)
    session.put_table(cue_time=cue)
    aligned_to(session, session.start + cue, align="start_time + cue_time")


def test_numbers_that_stand_for_none_are_left_out_of_an_expression(session):
    cue = np.where(ROWS % 4, session.cue, 0.0)
    session.put_table(cue_time=cue)
    with pytest.warns(UserWarning, match="cue_time is 0 in 3 of 10"):
        found = read_trials(session.path, **HOW, align="cue_time + 0.2")
    assert found["trial"].values.tolist() == ROWS[ROWS % 4 > 0].tolist()
    assert found.attrs["n_trials_dropped_placeholder"] == 3
    session.put_table(cue_time=np.where(ROWS % 4, session.cue - session.start, -1.0))
    with pytest.warns(UserWarning, match="cue_time is -1 in 3 of 10"):
        found = read_trials(session.path, **HOW, align="start_time + cue_time")
    assert found["trial"].values.tolist() == ROWS[ROWS % 4 > 0].tolist()


@pytest.mark.parametrize(
    ("expression", "words", "error"),
    [("start_time + cue_tme", "no column 'cue_tme'", NWBError), ("cue + go", r"no column 'cue \+ go' for", NWBError),
     ("start_time + side", "side holds texts", NWBError), ("start_time.mean()", "refused", ContractError),
     ("cue_time + start_time", "does not rise as they do", NWBError), ("start_time > 3", "gives bool", NWBError)],
)  # fmt: skip
def test_expressions_that_give_no_times_are_refused(session, expression, words, error):
    session.put_table(cue_time=session.cue, side=SIDE)
    with pytest.raises(error, match=words):
        read_trials(session.path, **HOW, align=expression)


def test_a_suggestion_aligns_to_a_relative_column_by_an_expression(session):
    session.put_table(cue_time=session.cue - session.start, side=SIDE)
    arguments = suggest(session.path)
    assert arguments["align"] == "start_time + cue_time"
    found = describe(session.path)
    assert found.suggestion["align"] == "start_time + cue_time"
    assert any("relative" in text for text in found.warnings)
    assert read_conditions(session.path, **arguments).attrs["n_trials_used"] == N_TRIALS


# -------------------------------------------------------------------------------------------------- tables of events


def put_events(session, name="events/stimulus", **columns):
    table = {"timestamp": session.cue} | columns
    session.put(f"{name}/id", np.arange(len(table["timestamp"])))
    for key, values in table.items():
        session.put(f"{name}/{key}", values)
    with h5py.File(session.path, "r+") as file:
        file[name].attrs.update(neurodata_type="EventsTable", colnames=np.array(list(table), "S"))


@pytest.mark.parametrize("table", ["stimulus", "events/stimulus"])
@pytest.mark.parametrize("align", ["timestamp", "start_time"])
def test_a_table_of_events_is_read_by_its_name(session, table, align):
    put_events(session, side=SIDE)
    found = aligned_to(session, session.cue, table=table, align=align)
    assert found["side"].values.tolist() == SIDE
    half = aligned_to(session, session.cue[0::2], table=table, align=align, where="side == 'left'")
    assert half["trial"].values.tolist() == ROWS[0::2].tolist()
    described = {one.name: one.n_rows for one in describe(session.path).tables}
    assert described == {"events/stimulus": N_TRIALS}
    arguments = suggest(session.path)
    assert arguments["table"] == "events/stimulus"
    assert read_conditions(session.path, **arguments).attrs["n_trials_used"] == N_TRIALS


def test_events_last_as_long_as_they_say(session):
    lasts = np.where(ROWS % 3, 0.3, np.nan)
    put_events(session, duration=lasts, side=SIDE)
    aligned_to(session, session.cue + lasts, table="stimulus", align="stop_time")
    found = read_trials(session.path, table="stimulus", align="start_time", within=("start_time", "stop_time"), **HOW)
    assert found.attrs["n_trials_dropped_within"] == np.isnan(lasts).sum()
    session.put("acquisition/licks/timestamps", session.cue + 0.1)
    put_events(session, "events/plain")
    with pytest.raises(NWBError, match="has no stop_time"):
        read_trials(session.path, table="plain", align="licks", **HOW)


def test_trials_are_aligned_to_events_of_a_table_by_their_columns(session):
    session.put_table()
    times = np.concatenate([session.cue, session.cue + 0.2])[::-1]
    put_events(session, timestamp=times, kind=["go"] * N_TRIALS + ["stop"] * N_TRIALS)
    aligned_to(session, session.cue, align="stimulus")
    found = aligned_to(session, session.cue + 0.2, align="events/stimulus", align_where="kind == 'go'")
    assert found.attrs["align_where"] == "kind == 'go'"
    with pytest.raises(NWBError, match=r"no column 'sort'; it has .*kind"):
        read_trials(session.path, **HOW, align="stimulus", align_where="sort == 'go'")
    with pytest.raises(NWBError, match="0 of 20 events"):
        read_trials(session.path, **HOW, align="stimulus", align_where="kind == 'up'")


# --------------------------------------------------------------------------------------------------- labelled events


def labelled(session, kind):
    """Three kinds of events in every trial; the last trials have no second one. The times of the second kind."""
    times = (session.start[:, None] + [0.1, 0.4, 0.9]).ravel()
    codes = np.tile([0, 1, 2], N_TRIALS)
    codes[[-2, -5]] = 2
    words = ["fixation", "go", "reward"]
    if kind == "AnnotatedEventsTable":
        order = np.argsort(codes, kind="stable")
        session.put("processing/events/ttl/id", np.arange(3))
        session.put("processing/events/ttl/label", words)
        session.put("processing/events/ttl/event_times", times[order])
        session.put("processing/events/ttl/event_times_index", np.cumsum(np.bincount(codes)))
    else:
        values = {"LabeledEvents": codes.astype(np.uint8), "AnnotationSeries": [words[code] for code in codes],
                  "IntervalSeries": np.array([2, 1, -1], np.int8)[codes]}[kind]  # fmt: skip
        attrs = {"labels": np.array(words, h5py.string_dtype())} if kind == "LabeledEvents" else {}
        session.put("acquisition/ttl/data", values, **attrs)
        session.put("acquisition/ttl/timestamps", times)
        with h5py.File(session.path, "r+") as file:
            file["acquisition/ttl"].attrs["neurodata_type"] = kind
    return np.where(ROWS < N_TRIALS - 2, session.start + 0.4, np.nan)


KINDS = {
    "LabeledEvents": "label == 'go'", "AnnotationSeries": "label == 'go'", "IntervalSeries": "data == 1",
    "AnnotatedEventsTable": "label == 'go'",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_labelled_events_is_chosen(session, kind):
    session.put_table(side=SIDE)
    origins = labelled(session, kind)
    with pytest.raises(NWBError, match=r"several kinds. The labels are .*align_where="):
        read_trials(session.path, **HOW, align="ttl")
    aligned_to(session, origins, align="ttl", align_where=KINDS[kind])
    if kind == "IntervalSeries":
        aligned_to(session, session.start + 0.1, align="ttl", align_where="data > 0")
        return
    aligned_to(session, session.start + 0.1, align="ttl", align_where="label in ('fixation', 'go')")
    with pytest.raises(NWBError, match=r"0 of (30|3) events satisfy"):
        read_trials(session.path, **HOW, align="ttl", align_where="label == 'stop'")
    with pytest.raises(NWBError, match=r"'sort'.*label"):
        read_trials(session.path, **HOW, align="ttl", align_where="sort == 'go'")


def test_events_of_one_label_need_no_choice(session):
    session.put_table()
    session.put("acquisition/ttl/data", np.zeros(N_TRIALS, np.uint8), labels=np.array(["go", "stop"], "S"))
    session.put("acquisition/ttl/timestamps", session.cue)
    aligned_to(session, session.cue, align="ttl")
    session.put("acquisition/ttl/data", np.full(N_TRIALS, 7, np.uint8), labels=np.array(["go", "stop"], "S"))
    with pytest.raises(NWBError, match="code 7 of 2 labels"):
        read_trials(session.path, **HOW, align="ttl")


def test_numbers_of_other_series_can_be_chosen_by(session):
    session.put_table()
    session.put("acquisition/pulse/data", np.tile([0.5, 2.0], N_TRIALS))
    session.put("acquisition/pulse/timestamps", np.stack([session.cue, session.cue + 0.3], axis=1).ravel())
    aligned_to(session, session.cue, align="pulse")
    aligned_to(session, session.cue + 0.3, align="pulse", align_where="data > 1")


# --------------------------------------------------------------------------------------- one of several times a trial

WHICH = {"first": 0, "last": -1, 0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("layout", ["ragged", "array", "text", "series"])
def test_one_of_several_times_of_a_trial_is_chosen(session, layout, which):
    counts = np.full(N_TRIALS, 3) if layout == "array" else np.resize([2, 3, 0, 1], N_TRIALS)
    lists = [np.round(session.start[k] + 0.2 + 0.3 * np.arange(n), 4) for k, n in enumerate(counts)]
    columns = {
        "ragged": {"lick_times": np.concatenate(lists), "lick_times_index": np.cumsum(counts).astype(np.uint8)},
        "array": {"lick_times": np.array(lists) if layout == "array" else None},
        "text": {"lick_times": [",".join(f"{t:.4f}" for t in part) or "N/A" for part in lists]},
        "series": {},
    }[layout]
    session.put_table(**columns)
    if layout == "series":
        session.put("acquisition/lick_times/timestamps", np.concatenate(lists))
    else:
        with pytest.raises(NWBError, match=r'lick_times of .* holds .*needs one time.*align_which="first"'):
            read_trials(session.path, **HOW, align="lick_times")
    origins = np.array([part[at] if -len(part) <= (at := WHICH[which]) < len(part) else np.nan for part in lists])
    found = aligned_to(session, origins, align="lick_times", align_which=which)
    assert found.attrs["align_which"] == which


def test_one_of_several_relative_times_is_chosen_in_an_expression(session):
    times = np.tile([0.2, 0.5], N_TRIALS)
    session.put_table(lick_times=times, lick_times_index=2 * np.arange(1, N_TRIALS + 1))
    with pytest.raises(NWBError, match="relative"):
        read_trials(session.path, **HOW, align="lick_times", align_which="last")
    aligned_to(session, session.start + 0.5, align="start_time + lick_times", align_which="last")
    with pytest.raises(NWBError, match=r"align_which=\"first\""):
        read_trials(session.path, **HOW, align="start_time + lick_times")


@pytest.mark.parametrize(
    ("how", "words"),
    [({"align": "cue_time", "align_which": "first"}, "align_which.*cue_time has one time"),
     ({"align": "cue_time", "align_where": "label == 'go'"}, "align_where.*cue_time is a column"),
     ({"align": "start_time + 0.2", "align_where": "label == 'go'"}, "align_where.*expression"),
     ({"align": "start_time + 0.2", "align_which": 1}, "align_which.*one time"),
     ({"align": lambda t: t.cue_time, "align_which": 1}, "align_which.*function"),
     ({"align": lambda t: t.cue_time, "align_where": "x"}, "align_where.*function"),
     ({"align": "pulses", "align_where": "data > 0"}, "align_where.*regular samples"),
     ({"align": "cue_time", "align_which": -1}, "align_which is -1"),
     ({"align": "cue_time", "align_which": "second"}, "align_which is 'second'")],
)  # fmt: skip
def test_choices_that_do_not_apply_are_refused(session, how, words):
    session.put_table(cue_time=session.cue)
    session.put("acquisition/pulses/data", np.ones(50))
    session.put("acquisition/pulses/starting_time", 0.0, rate=2.0)
    with pytest.raises(ContractError, match=words):
        read_trials(session.path, **HOW, **how)


def test_choices_are_flags_and_fields_of_a_recipe(session, tmp_path):
    session.put_table(side=SIDE)
    labelled(session, "LabeledEvents")
    flags = ["--by", "side", "--align", "ttl", "--align-where", "label == 'go'", "--align-which", "last"]
    words = ["fit", str(session.path), *flags, "--window", "-0.2", "0.4", "--bin", "0.05", "--rank", "1", "--no-plot"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "fit.nwb"), "--test-size", "0"])
    assert done.exit_code == 0, done.output
    attrs = read_fit(tmp_path / "fit.nwb").attrs
    assert attrs["align_where"] == "label == 'go'"
    assert attrs["align_which"] == "last"


@pytest.mark.parametrize("values", [np.ones(3 * N_TRIALS), np.zeros(3 * N_TRIALS, dtype=[("code", "i4")])])
def test_labels_without_codes_are_refused(session, values):
    session.put_table()
    labelled(session, "LabeledEvents")
    session.put("acquisition/ttl/data", values, labels=np.array(["go", "stop"], "S"))
    with pytest.raises(NWBError, match=r"has labels and data that are .*[Cc]odes of labels are needed"):
        read_trials(session.path, **HOW, align="ttl")

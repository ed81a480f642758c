"""One dataset of a valid recording is corrupted: the right numbers come, or an error, never wrong numbers in silence.

`python -m tests.nwb.recording.test_corruption --examples 2000 --seed 1` tries more examples than the test, each in a
child process, and prints how many of them were refused, read and wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import nwb_lint as nl
from nwb_lint.errors import NWBError, printable
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description, to_json
from tests.nwb.corruption import (
    DROPPED,
    ELECTRODES,
    KINDS,
    LEGAL,
    REQUESTS,
    SENSELESS,
    SERIES,
    TRUTH,
    Senseless,
    Skip,
    corrupted,
    needs_warning,
    write_recording,
)

LIMIT_S = 20


class Example(NamedTuple):
    """The dataset that is corrupted, how, and the seed of what is left to chance."""

    at: str
    kind: str
    seed: int


class Outcome(NamedTuple):
    """What a call gave: a result, or the message of an NWBError; and its warnings."""

    result: Any
    error: str
    warnings: list[str]


EXAMPLES = st.builds(Example, st.sampled_from(sorted(TRUTH)), st.sampled_from(sorted(KINDS)), st.integers(0, 99))


def attempt(function: Any, *args: Any, **how: Any) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = function(*args, **how), ""
        except NWBError as failure:
            result, error = None, str(failure) or "an error without a message"
    return Outcome(result, error, [str(one.message) for one in caught])


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """TimeoutError where the body takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@lru_cache(1)
def clean() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_recording(Path(folder, "clean.nwb"))
        return Path(folder, "clean.nwb").read_bytes()


@lru_cache(1)
def baseline() -> dict[str, dict[str, Any]]:
    return {name: request.expect(TRUTH) for name, request in REQUESTS.items()}


@lru_cache
def used(name: str) -> set[str]:
    """The datasets that a request needs, and the data of a series, whose attributes matter."""

    class Recorder(dict):
        def get(self, at: str, default: Any = None) -> Any:
            seen.add(at)
            return super().get(at, default)

    seen: set[str] = set()
    REQUESTS[name].expect(Recorder(TRUTH))
    return seen | ({f"{SERIES}/timestamps"} if f"{SERIES}/data" in seen else set())


def alike(found: Any, expected: dict[str, Any]) -> bool:
    """Whether a Dataset has the values that the loops computed."""
    for name, values in expected.items():
        if name == "observed" and name not in found:
            found = found.assign(observed=found["count"].astype(bool) | True)
        have = np.asarray(found[name].values)
        if isinstance(values, list):
            if [_plain(v) for v in have.tolist()] != [_plain(v) for v in values]:
                return False
        elif have.shape != values.shape or not np.allclose(have, values, rtol=1e-4, atol=1e-4, equal_nan=True):
            return False
    return True


def _plain(value: Any) -> str:
    """A label as text: 1, 1.0 and '1' are the same label."""
    text = str(value)
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text


def check_message(text: str) -> str:
    if len(text) > 1200 or not text.isprintable():
        return f"a message of {len(text)} characters, printable: {text.isprintable()}: {text[:200]!r}"
    return ""


def judge(name: str, example: Example, path: Path, arrays: dict[str, Any]) -> tuple[str, str]:
    """What came of one request (read, refused), and what is wrong with that."""
    request = REQUESTS[name]
    found = attempt(getattr(nl, request.reader), path, **request.how)
    if found.error:
        wrong = check_message(found.error)
        if example.kind in LEGAL and not example.at.endswith("_index"):
            wrong = wrong or f"is legal, but refused: {found.error}"
        return ("damaged" if _is_damage(name, example, arrays) else "refused"), wrong
    same = alike(found.result, baseline()[name])
    if same and ("text" in example.kind or example.kind == "bytes"):
        return "read", ""  # the same numbers, as text
    if example.at not in used(name):
        return "read", "" if same else f"other numbers, though it needs no {example.at}; said: {found.warnings}"
    try:
        if alike(found.result, request.expect(arrays)):
            odd = "" if same or found.warnings else needs_warning(arrays)
            return "read", f"without a word, though {odd}" if odd else ""
        if found.warnings and alike(found.result, request.expect(arrays | {DROPPED: True})):
            return "read", ""
    except Senseless as reason:
        return "read", f"has no meaning ({reason}), but was read; said: {found.warnings}"
    return "read", f"other numbers than the loops; said: {found.warnings}"


def _is_damage(name: str, example: Example, arrays: dict[str, Any]) -> bool:
    """Whether a dataset that a request needs has no meaning at all."""
    described = not example.at.startswith(ELECTRODES)  # only what units say of electrodes is described
    return described and example.at in used(name) and arrays[example.at] is SENSELESS


def _columns(description: Any) -> list[Any]:
    """What a description says of each column."""
    tables = [*description.tables, *([description.units] if description.units else [])]
    return [(column.name, column.kind, column.summary) for table in tables for column in table.columns]


@lru_cache(1)
def clean_columns() -> tuple[list[Any], tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "clean.nwb").write_bytes(clean())
        described = describe(Path(folder, "clean.nwb"))
        return _columns(described), described.series


def judge_description(example: Example, path: Path, damaged: list[str]) -> str:
    """What is wrong with the description of the file, and with the call it suggests."""
    described = attempt(describe, path)
    if described.error:
        return check_message(described.error)
    found = described.result
    text = printable(format_description(found))
    if not text.replace("\n", "").isprintable():
        return "control characters in the text of a description"
    to_json([found])
    said = found.warnings or found.error or (_columns(found), found.series) != clean_columns()
    if damaged and not said:
        return f"nothing is said of what {', '.join(damaged)} cannot read"
    if found.suggestion and example.seed % 2:
        how = {"window_s": (-0.25, 0.75), "bin_s": 0.25} | {
            key: value for key, value in found.suggestion.items() if key not in ("sources", "source")
        }
        tried = attempt(nl.read_conditions, path, **how)
        if tried.error and not said:
            return f"suggests {found.suggestion}, which is refused: {tried.error}"
    return ""


def failures(example: Example, folder: Path) -> dict[str, tuple[str, str]]:
    """What came of each request, by its name, and what is wrong with it."""
    path = folder / "small.nwb"
    path.write_bytes(clean())
    with h5py.File(path, "r+") as file:
        arrays = corrupted(file, example.at, example.kind, example.seed)
    outcomes: dict[str, tuple[str, str]] = {}
    others = [name for name in REQUESTS if example.at not in used(name)]
    tried = [name for name in REQUESTS if name not in others or name == others[example.seed % len(others)]]
    for name in [*tried, "describe"]:
        try:
            with deadline(LIMIT_S):
                if name == "describe":
                    damaged = [key for key, (what, _) in outcomes.items() if what == "damaged"]
                    outcomes[name] = "described", judge_description(example, path, damaged)
                else:
                    outcomes[name] = judge(name, example, path, arrays)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            at = next((f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where) if "nwb_lint" in f.filename), "")
            outcomes[name] = "failed", f"{type(error).__name__} at {at}: {error}"
    return outcomes


def test_a_valid_recording_is_read_as_the_loops_say(tmp_path):
    path = tmp_path / "small.nwb"
    path.write_bytes(clean())
    for name, request in REQUESTS.items():
        found = attempt(getattr(nl, request.reader), path, **request.how)
        assert not found.error, name
        assert not found.warnings, name
        assert alike(found.result, baseline()[name]), name
    assert not describe(path).warnings


@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
@given(EXAMPLES)
@pytest.mark.filterwarnings("ignore")
def test_a_corrupt_dataset_gives_the_right_numbers_or_an_error(example):
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = failures(example, Path(folder))
        except Skip:
            return
        wrong = {name: text for name, (_, text) in found.items() if text}
        assert not wrong, f"{example}: {wrong}"


# -------------------------------------------------------------------------------------------------------- the program


def _in_child(example: Example, folder: Path) -> dict[str, tuple[str, str]] | None:
    """`failures` in a child process: a crash is that of the example. None for a kind that does not suit."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        status = 1
        try:
            try:
                text = repr(failures(example, folder))
            except Skip:
                text = "None"
            with os.fdopen(write, "w") as stream:
                stream.write(text)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    status = os.waitpid(child, 0)[1]
    if status or not text:
        return {"all": ("crashed", f"the process ended with status {status}")}
    return eval(text, {})


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Corrupt one dataset of a valid recording, and judge what comes of it."
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at", default="", help="only datasets whose path holds this text")
    parser.add_argument("--kind", default="", help="only kinds whose name holds this text")
    parser.add_argument("--all", action="store_true", help="each kind once at each dataset, in place of examples")
    chosen = parser.parse_args()
    wrong: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    tried: set[str] = set()
    n = 0
    with tempfile.TemporaryDirectory() as folder:  # what is imported and computed once, for all children
        failures(Example("units/id", "soft link", 0), Path(folder))

    def run(example: Example) -> None:
        nonlocal n
        folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        try:
            found = _in_child(example, folder)
        finally:
            shutil.rmtree(folder)
        if found is None:
            return
        n += 1
        tried.add(example.kind)
        for name, (what, text) in found.items():
            counts[what] += 1
            if text:
                wrong[example.kind] += 1
                print(f"WRONG {example.at} | {example.kind} | {example.seed} | {name}: {text[:400]}", flush=True)

    fits = lambda example: chosen.at in example.at and chosen.kind in example.kind  # noqa: E731
    if chosen.all:
        for at in sorted(TRUTH):
            for kind in sorted(KINDS):
                if fits(Example(at, kind, chosen.seed)):
                    run(Example(at, kind, chosen.seed))
    else:
        rng = np.random.default_rng(chosen.seed)
        names, kinds = sorted(TRUTH), sorted(KINDS)
        while n < chosen.examples:
            example = Example(str(rng.choice(names)), str(rng.choice(kinds)), int(rng.integers(1000)))
            if fits(example):
                run(example)
    print(f"{n} examples of {len(tried)} kinds: {dict(counts)}; wrong: {sum(wrong.values())}")
    for kind, number in wrong.most_common():
        print(f"  {number:4} {kind}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

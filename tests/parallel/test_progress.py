"""Progress of long work: a bar in a terminal, lines elsewhere, nothing where nobody asked."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from nwb_lint.parallel.progress import progress_bar


def count(shown, total):
    with progress_bar(shown, "fits", total=total) as bar:
        for _ in range(3):
            bar.update()
    return bar.n


@pytest.mark.parametrize("total", [3, None])
def test_without_a_terminal_each_state_is_a_line(total, capsys, monkeypatch):
    monkeypatch.setattr("nwb_lint.parallel.progress.LINE_S", 0.0)
    count(True, total)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("fits: ") and "passed" in line for line in lines)
    assert any("2 of 3 tasks" in line if total else "2 tasks" in line for line in lines)
    assert ("left" in lines[1]) == (total is not None)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_step_shows_that_time_passes(terminal, capsys, monkeypatch):
    for name in ("LINE_S", "BAR_S"):
        monkeypatch.setattr(f"nwb_lint.parallel.progress.{name}", 0.05)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress_bar(True, "fits", total=3):
        time.sleep(1.3)
    shown = capsys.readouterr().err
    assert "00:01" in shown
    assert not [one for one in threading.enumerate() if "shows progress" in one.name]
    assert shown.count("0 of 3" if not terminal else "0/3") > 2


def test_short_work_prints_no_line(capsys):
    count(True, 3)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    count(True, 3)
    assert "3/3" in capsys.readouterr().err


def test_nothing_is_shown_where_nobody_asked(capsys):
    count(False, 3)
    assert capsys.readouterr().err == ""

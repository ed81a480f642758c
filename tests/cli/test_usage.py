"""What help and documentation say of commands is what the parser takes, in any terminal."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nwb_lint.cli import app
from nwb_lint.testing import mock_session

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "tutorials").glob("*.py")),
    *sorted((ROOT / "nwb_lint").rglob("*.py")),
]  # fmt: skip
COMMANDS = sorted(app.commands)


def named_commands():
    """Commands between backticks, and where they stand."""
    for path in TEXTS:
        if "_build" in path.parts or "_made" in path.parts:
            continue
        for found in re.finditer(r"`(nwb-lint [^`{}\n]+)`", path.read_text(encoding="utf-8")):
            yield pytest.param(found[1], id=f"{path.relative_to(ROOT)}:{found[1][:40]}")


@pytest.mark.parametrize("text", [*named_commands()])
def test_commands_in_texts_are_what_the_parser_takes(text):
    words = [word for word in shlex.split(text.replace("'", "")) if word not in ("…", "...", "|", "source")][1:]
    context = click.Context(app)
    _, rest, _ = app.make_parser(context).parse_args(words)
    if rest:
        command = app.commands[rest[0]]
        command.make_parser(click.Context(command)).parse_args(rest[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_flag_and_says_which_may_be_repeated(name):
    shown = " ".join(CliRunner().invoke(app, [name, "--help"], color=True).stdout.split())
    assert "\x1b" not in shown
    options = [one for one in app.commands[name].params if isinstance(one, click.Option)]
    for one in options:
        assert all(flag in shown for flag in [*one.opts, *one.secondary_opts])
    assert shown.count("[may be repeated]") == sum(one.multiple for one in options)


def test_a_second_value_without_its_flag_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mock_session("s.nwb")
    words = ["fit", "s.nwb", "--by", "side", "coherence", "--align", "cue_time", "--window", "0", "1", "--out", "f.nwb"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "write --by side --by coherence" in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, [word.replace("coherence", "s.nwb") for word in words])
    assert "write --by" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell, tmp_path):
    """The script of each shell that the documentation names, and what it gets."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert f"_NWB_LINT_COMPLETE={shell}_source nwb-lint" in page

    def answer(instruction, *words):
        typed = {"COMP_WORDS": " ".join(["nwb-lint", *words]), "COMP_CWORD": str(len(words))}
        typed["COMP_CWORD"] = words[-1] if shell == "fish" and words else typed["COMP_CWORD"]
        how = os.environ | typed | {"_NWB_LINT_COMPLETE": f"{shell}_{instruction}", "PYTHONPATH": str(ROOT)}
        code = "from nwb_lint.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code], env=how, capture_output=True, text=True, cwd=tmp_path)
        assert done.stderr == ""
        return done.stdout

    assert "nwb-lint" in answer("source")
    assert "inspect" in answer("complete", "insp")
    assert "--condition" in answer("complete", "fixed-points", "--cond")
    assert "file" in answer("complete", "show", "fi")

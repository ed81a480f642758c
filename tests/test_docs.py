"""The documents: links lead somewhere, pages made from code are current, their code runs, the changelog stays short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from glob import glob
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.cli import app
from nwb_lint.tasks.demo import demo_session
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_session, mock_trials
from nwb_lint.workflow.demo import write_demo_session
from nwb_lint.workflow.recipe import make_recipe

ROOT = Path(__file__).parents[1]
MADE = ("_build", "_made", "api", "project", "tutorials")  # folders of pages that the build makes
OF_THE_SITE = sorted(path for path in (ROOT / "docs").rglob("*.md") if not set(path.parts).intersection(MADE))
PAGES = sorted([*ROOT.glob("*.md"), *OF_THE_SITE])
RECIPE = {"sources": ["session.nwb"], "read": {"by": "side", "align": "cue_time", "window_s": [0.0, 0.5]}}


class Block(NamedTuple):
    """A block of code of a page: its language, its text, its line, and why it is not run here ("": it is)."""

    language: str
    code: str
    line: int
    reason: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(
        r"^(?:<!-- not run here: ([^>]+) -->\n)?```(python|bash|toml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    return [Block(one[2], one[3], text[: one.start(3)].count("\n") + 1, one[1] or "") for one in found]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_inside_the_project_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    paths = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith(("#", "mailto:"))]
    # the site copies the tutorials into its own folder
    at = [(page.parent / path).resolve() for path in paths]
    copied = [ROOT / "tutorials" / path.name if path.parent == ROOT / "docs" / "tutorials" else path for path in at]
    assert not [path for path in copied if not path.exists()]


def test_the_page_of_options_is_current():
    made = subprocess.run([sys.executable, "docs/options.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert made.stdout.strip() == page.strip(), "python docs/options.py > docs/options.md"


@pytest.fixture(scope="module")
def names():
    """The names that pages use without making them: see the first lines of the how-to pages."""
    made = {"recording": mock_recording(), "activity": mock_activity(), "fit": mock_fit(), "trials": mock_trials()}
    return made | {"nl": nl, "np": np, "plot": plot}


@pytest.mark.filterwarnings("ignore::UserWarning")  # cautions: the data are small
@pytest.mark.parametrize("page", [page for page in (ROOT / "README.md", *OF_THE_SITE) if blocks(page)], ids=name)
def test_code_of_the_pages_runs(page, names, tmp_path, monkeypatch):
    """In order, in a folder with the files that they name: Python, commands of nwb-lint, recipes and parts of them."""
    monkeypatch.chdir(tmp_path)
    mock_session("session.nwb")
    Path("data").mkdir()
    for k in range(2):
        mock_session(f"data/{k}.nwb", seed=k, session_id=f"mock {k}")
    write_arrays()
    if "nwb_lint_demo/demo_session.nwb" in "".join(one.code for one in blocks(page) if one.language == "python"):
        Path("nwb_lint_demo").mkdir()
        write_demo_session(demo_session(seed=0, n_units=40), Path("nwb_lint_demo/demo_session.nwb"))
    space = dict(names)
    for language, code, line, reason in blocks(page):
        if reason:
            continue
        if language == "python":
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), space)
        elif language == "toml":
            make_recipe(RECIPE | tomllib.loads(code))
        else:
            run_commands(code)


def write_arrays() -> None:
    """What somebody has who has only arrays: the files that the page Start names."""
    rng = np.random.default_rng(0)
    start, side = 1.0 + 2.0 * np.arange(60), np.resize(["left", "right"], 60)
    strength = np.resize([0.2, 0.2, 1.0, 1.0], 60)
    table = {"start_time": start, "stop_time": start + 1.5, "cue_time": start + 0.5, "side": side, "strength": strength}
    pd.DataFrame(table).to_csv("trials.csv", index=False)
    after_cue = [rng.uniform(0, 1, rng.poisson(20 * s)) + t + 0.5 for t, s in zip(start, strength, strict=True)]
    parts = [np.concatenate([rng.uniform(0, 121, 1200), *after_cue[unit % 2 :: 2]]) for unit in range(6)]
    np.savez("spikes.npz", time=np.concatenate(parts), unit=np.repeat(np.arange(6), [len(one) for one in parts]))
    np.save("rates.npy", mock_recording()["rate"].values)


def in_words(command: str) -> tuple[list[str], str]:
    """The words of a command as a shell sees them, and the file that the output goes to ("": none)."""
    words = [part for word in shlex.split(command, comments=True) for part in sorted(glob(word)) or [word]]
    return (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, "")


def run_commands(code: str) -> None:
    for command in code.replace("\\\n", " ").splitlines():
        words, target = in_words(command)
        if not words:
            continue
        assert words[0] == "nwb-lint", f"{command}: say why it is not run, in a comment before the block"
        done = CliRunner().invoke(app, words[1:], prog_name="nwb-lint")
        assert done.exit_code == 0, f"{command}\n{done.output}"
        if target:
            Path(target).write_text(done.stdout, encoding="utf-8")


@pytest.mark.parametrize(("page", "module"), [("api", nl), ("plot", plot)])
def test_the_reference_has_every_public_name(page, module):
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([a-zA-Z_]+)$", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(set(module.__all__) - {"errors", "plot"})


def test_the_gallery_has_every_figure():
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert not [name for name in plot.__all__ if f"plot.{name}(" not in text]


def test_every_release_has_at_most_20_lines():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        entries = re.findall(r"^- ", release, flags=re.MULTILINE)
        assert len(entries) <= 20, release.splitlines()[0]

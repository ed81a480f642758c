"""A newcomer goes from an empty folder to a report and a file to share, by the commands that README and Start print."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from nwbinspector import Importance, inspect_nwbfile

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import write_demo_session
from tests.test_docs import ROOT, Block, blocks, in_words, write_arrays

START = ROOT / "docs" / "start.md"


def commands(page: Path) -> list[str]:
    """The commands of nwb-lint on a page, as printed."""
    code = "".join(one.code for one in blocks(page) if one.language == "bash")
    return [line for line in code.splitlines() if line.startswith("nwb-lint ")]


def printed(words: str, page: Path = START) -> str:
    """The only command of a page that begins with these words."""
    (found,) = [line for line in commands(page) if line.startswith(f"nwb-lint {words}")]
    return found


def arrays() -> list[Block]:
    """The code of Start for somebody who has arrays: spike times, then rates."""
    return [one for one in blocks(START) if one.language == "python" and ".np" in one.code]


def follow(command: str, source: str = "", fit: str = "") -> str:
    """Run a command with the names of one's own files put in; its output."""
    named = command.replace("session.nwb", source or "session.nwb")
    named = re.sub(r"\bfit\.nwb", fit, named) if fit else named
    words, target = in_words(named)
    done = CliRunner().invoke(app, words[1:], prog_name="nwb-lint")
    assert done.exit_code == 0, f"{named}\n{done.output}"
    if target:
        Path(target).write_text(done.stdout, encoding="utf-8")
    return done.stdout


def to_a_first_fit(source: str) -> None:
    """Steps 1 to 3 of Start, and the scores of the fit are those of conditions that were held out."""
    assert "units" in follow(printed("inspect"), source)
    follow(printed("init session.nwb"), source)
    read = tomllib.loads(Path("recipe.toml").read_text(encoding="utf-8"))["read"]
    checked = set(re.findall(r"^\| `(\w+) = ", START.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"by"} < checked <= {*read, "where"}  # what Start asks to check is there
    assert "held_out" in follow(printed("fit recipe.toml --rank "))
    fit = nl.read_fit("first_fit.nwb")
    assert fit.sizes["condition"] >= 4
    assert fit["held_out"].any()
    shown = " ".join(follow(printed("report").replace("report", "show"), fit="first_fit.nwb").split())
    for message in fit.attrs.get("warnings", []):
        assert " ".join(str(message).split()) in shown


def to_share(fit: str, animal_is_known: bool = True) -> None:
    """Steps 5 and 6 of Start: a page that is complete, and a file that DANDI takes."""
    follow(printed("report"), fit=fit)
    page = Path(fit).with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") >= 5  # figures are in it
    assert not re.search(r"src=\"https?:", page)
    assert not re.search(r"href=\"https?:", page.partition("<body")[0])
    without, with_age = (one for one in commands(START) if one.startswith("nwb-lint publish"))
    if animal_is_known:
        assert not list(inspect_nwbfile(fit, importance_threshold=Importance.BEST_PRACTICE_VIOLATION))
    else:
        refused = CliRunner().invoke(app, shlex.split(without.replace(" fit.nwb", f" {fit}"))[1:])
        assert refused.exit_code == 1
        assert "--subject age=" in refused.stderr
        without = with_age
    assert "would go to dandi://000123/draft/sub-" in follow(without, fit=fit)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")  # cautions about small data
class TestFromAnEmptyFolder:
    def test_with_the_demo(self, folder):
        """The session of the demo, with fewer units. The command itself has a test of its own."""
        named = re.search(r"that of the demo, `([\w./]+)`", START.read_text(encoding="utf-8"))[1]
        Path(named).parent.mkdir()
        write_demo_session(demo_session(seed=0, n_units=30), Path(named))
        to_a_first_fit(named)
        before = nl.read_fit("first_fit.nwb")
        assert any("context" in one and "earlier" in one for one in before.attrs["warnings"])
        (window,) = re.findall(r"`(window_s = \[-[\d., ]+\])` for this", START.read_text(encoding="utf-8"))
        recipe = Path("recipe.toml").read_text(encoding="utf-8")
        ahead, context, others = recipe.partition('column = "context"')
        later = re.sub(r"window_s = \[.*?\]", window, others, count=1)
        Path("recipe.toml").write_text(ahead + context + later, encoding="utf-8")
        follow(printed("fit recipe.toml --rank ") + " --force")
        assert nl.read_fit("first_fit.nwb")["r2"][1] > before["r2"][1] + 0.1
        to_share("first_fit.nwb")

    def test_with_the_file_of_a_mouse(self, folder, shared_data):
        shutil.copy(next((shared_data / "alm000009").glob("*.nwb")), "mouse.nwb")
        to_a_first_fit("mouse.nwb")
        assert nl.read_fit("first_fit.nwb").attrs["by"] == ["type", "response"]
        to_share("first_fit.nwb", animal_is_known=False)

    def test_with_a_unit_in_each_file(self, folder, shared_data):
        Path("data").mkdir()
        for one in sorted((shared_data / "mante2013").glob("*.nwb"))[:8]:
            shutil.copy(one, "data")
        assert printed("init data/")
        to_a_first_fit("data/*.nwb")
        assert nl.read_fit("first_fit.nwb").sizes["neuron"] >= 4
        to_share("first_fit.nwb")

    def test_with_arrays(self, folder):
        """Spike times to the choice of a rank, the commands of README after it, and rates."""
        write_arrays()
        of_spikes, of_rates = arrays()
        space: dict = {}
        exec(of_spikes.code, space)
        to_a_first_fit("my_session.nwb")
        assert "<- chosen" in follow(printed("fit recipe.toml --ranks "))
        to_share("fit.nwb")
        for command in commands(ROOT / "README.md"):
            if " report " not in command:  # it was made
                follow(command, "my_session.nwb")
        exec(of_rates.code, space)
        to_share("rates_fit.nwb")

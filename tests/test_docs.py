"""The documents: links lead somewhere, pages made from code are current, the changelog stays short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    paths = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith(("#", "mailto:"))]
    assert not [path for path in paths if not (page.parent / path).exists()]


def test_the_page_of_options_is_current():
    made = subprocess.run([sys.executable, "docs/options.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert made.stdout.strip() == page.strip(), "python docs/options.py > docs/options.md"


def test_every_release_has_at_most_20_lines():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for release in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        entries = re.findall(r"^- ", release, flags=re.MULTILINE)
        assert len(entries) <= 20, release.splitlines()[0]

"""What goes beyond the paper: each figure beside its goal, on simulated data with a known truth.

Run it by hand: ``python benchmarks/beyond.py`` runs every section, ``python benchmarks/beyond.py NAME ...`` the named
ones, ``python benchmarks/beyond.py --list`` prints their names. Each section prints its figures, a line each, and then
its seconds.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from sections import run_sections

HERE = Path(__file__).parent


def sections() -> dict:
    """Every section by name, from the files beside this one that are called ``beyond_*.py``."""
    sys.path.insert(0, str(HERE))
    found = {}
    for path in sorted(HERE.glob("beyond_*.py")):
        found.update(importlib.import_module(path.stem).SECTIONS)
    return found


if __name__ == "__main__":
    run_sections(sections(), __doc__)

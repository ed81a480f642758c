"""Whether what is said about a fit holds: each figure beside its goal, on simulated data with a known truth.

Run it by hand: ``python benchmarks/honesty.py`` runs every section, ``python benchmarks/honesty.py NAME ...`` the named
ones, ``python benchmarks/honesty.py --list`` prints their names. Each section prints its figures, a line each, and then
its seconds.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def sections() -> dict:
    """Every section by name, from the files beside this one that are called ``honesty_*.py``."""
    sys.path.insert(0, str(HERE))
    found = {}
    for path in sorted(HERE.glob("honesty_*.py")):
        found.update(importlib.import_module(path.stem).SECTIONS)
    return found


def main() -> None:
    """Run the sections that the command line names, or all."""
    known = sections()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"sections to run: {', '.join(known)} (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names of the sections and stop")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in known]:
        parser.error(f"no section is called {', '.join(unknown)}; there are: {', '.join(known)}")
    if chosen.list:
        print("\n".join(known))
        return
    for name in chosen.names or known:
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        known[name]()
        print(f"   {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

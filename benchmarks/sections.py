"""The command line that benchmarks with sections share: run the named ones, or all, and time each."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping


def run_sections(sections: Mapping[str, Callable[[], object]], doc: str | None) -> None:
    """Run the sections that the command line names, or all; ``--list`` prints their names."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(sections)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"sections to run: {names} (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names of the sections and stop")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in sections]:
        parser.error(f"no section is called {', '.join(unknown)}; there are: {names}")
    if chosen.list:
        print("\n".join(sections))
        return
    for name in chosen.names or sections:
        what = (sections[name].__doc__ or "").partition("\n")[0]
        print(f"== {name}{f': {what}' if what else ''}", flush=True)
        start = time.perf_counter()
        sections[name]()
        print(f"   {time.perf_counter() - start:.0f} s", flush=True)

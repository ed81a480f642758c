"""The command line that benchmarks with sections share: run the named ones, or all, and time each."""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def workers(number: int = 2) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, started afresh: a forked one may wait for ever for threads of its parent."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        with ProcessPoolExecutor(number, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def collected(pattern: str) -> dict[str, Callable[[], object]]:
    """Every section by name, from the files beside this one whose names match."""
    sys.path.insert(0, str(HERE))
    found: dict[str, Callable[[], object]] = {}
    for path in sorted(HERE.glob(pattern)):
        found.update(importlib.import_module(path.stem).SECTIONS)
    return found


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
        start, cpu = time.perf_counter(), cpu_seconds()
        sections[name]()
        print(f"   {time.perf_counter() - start:.0f} s, {cpu_seconds() - cpu:.0f} CPU s", flush=True)


def cpu_seconds() -> float:
    """CPU time of this process and of its processes that have ended, s. What else runs on the machine adds little."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)

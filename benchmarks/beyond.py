"""Whether what goes beyond the paper recovers simulated truths: each figure beside its goal.

Run it by hand: ``python benchmarks/beyond.py`` runs every section, ``python benchmarks/beyond.py NAME ...`` the named
ones, ``python benchmarks/beyond.py --list`` prints their names. Each section prints its figures, a line each, and then
its seconds.
"""

from __future__ import annotations

from sections import collected, run_sections

if __name__ == "__main__":
    run_sections(collected("beyond_*.py"), __doc__)

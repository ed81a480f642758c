"""Whether what is said about a fit holds: each figure beside its goal, on simulated data with a known truth.

Run it by hand: ``python benchmarks/honesty.py`` runs every section, ``python benchmarks/honesty.py NAME ...`` the named
ones, ``python benchmarks/honesty.py --list`` prints their names. Each section prints its figures, a line each, and then
its seconds.
"""

from __future__ import annotations

from sections import collected, run_sections

if __name__ == "__main__":
    run_sections(collected("honesty_*.py"), __doc__)

"""Read and fit again and again: memory and open files do not grow.

``python -m tests.hostile.soak --minutes 10`` reads a recording, a fit and its netCDF, describes, fits and writes in
turn. It prints memory and open files of each tenth of the time. It ends with status 1 where the last half has more than
the first by `MOST_GROWTH`.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

import nwb_lint as nl
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.netcdf import export_netcdf, import_netcdf
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.testing import mock_activity, mock_fit, mock_session
from tests.hostile.mutations import damage
from tests.nwb.corruption import REQUESTS, write_recording

MOST_GROWTH = 1.05  # of the mean memory, second half against first


def memory_mb() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def once(folder: Path, number: int) -> None:
    """Every kind of work once; also on a damaged file."""
    recording, fit_file = folder / "recording.nwb", folder / "fit.nwb"
    for request in REQUESTS.values():
        getattr(nl, request.reader)(recording, **request.how)
    nl.read_fit(fit_file)
    describe(folder / "session.nwb")
    damaged = folder / "damaged.nwb"
    damaged.write_bytes(damage(fit_file.read_bytes(), np.random.default_rng(number)))
    with suppress(NWBError):
        nl.read_fit(damaged)
    fit = nl.fit_lint(mock_activity(seed=number % 5), rank=1, tau_s=0.1, method="auto", max_iter=3)
    if number % 10 == 0:
        nl.write_fit(fit, folder / "again.nwb", overwrite=True)
        import_netcdf(export_netcdf(fit, folder / "again.nc", overwrite=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    seconds = 60 * parser.parse_args().minutes
    rows: list[tuple[float, float, int]] = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        write_recording(folder / "recording.nwb")
        mock_session(folder / "session.nwb")
        nl.write_fit(mock_fit(), folder / "fit.nwb")
        for number in range(12):  # what is imported and kept once
            once(folder, number)
        begin, number = time.monotonic(), 0
        while (now := time.monotonic() - begin) < seconds:
            once(folder, number)
            number += 1
            if len(rows) < 10 * now / seconds:
                gc.collect()
                rows.append((now, memory_mb(), len(os.listdir("/proc/self/fd"))))
                print(f"{now:7.0f} s  {number:6d} rounds  {rows[-1][1]:7.1f} MB  {rows[-1][2]} open files", flush=True)
    half = len(rows) // 2
    first, second = ([row[1] for row in part] for part in (rows[:half], rows[half:]))
    growth = (sum(second) / len(second)) / (sum(first) / len(first))
    files = max(row[2] for row in rows[half:]) - max(row[2] for row in rows[:half])
    said = f"memory x {growth:.3f} from first to second half, {files} more open files"
    print(f"{number} rounds in {seconds:.0f} s: {said}")
    return int(growth > MOST_GROWTH or files > 0)


if __name__ == "__main__":
    sys.exit(main())

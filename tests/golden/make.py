"""Make the golden files of the current version of ndx-lowrank: ``python -m tests.golden.make`` from the root.

The NWB file is gzipped, since it carries the schemas as text. The fit in it lies beside it as netCDF; the results in it
follow from the seeds below.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from nwb_lint.contract.results import RESULTS
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.netcdf import export_netcdf
from nwb_lint.nwb.extension.write import write_fit
from tests.factories import random_fit, random_result

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}


def main() -> None:
    """Write the files of this version. Those of earlier versions are never changed."""
    fit = random_fit(1, hidden=True, trials=True)
    name = f"ndx-lowrank-{schema.version()}"
    with tempfile.TemporaryDirectory() as folder:
        results = {kind: random_result(kind, fit) for kind in RESULTS}
        path = write_fit(fit, Path(folder, "fit.nwb"), subject=SUBJECT, results=results)
        Path(__file__).with_name(f"{name}.nwb.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    export_netcdf(fit, Path(__file__).with_name(f"{name}.nc"), overwrite=True)


if __name__ == "__main__":
    main()

"""Versions of what a result depends on: for bug reports, and for the attributes of a fit."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

# Packages whose version can change a number or decide whether a file can be read.
PACKAGES = (
    "nwb_lint", "numpy", "scipy", "xarray", "pandas", "torch", "scikit-learn", "h5py", "hdmf", "pynwb", "dandi",
    "zarr", "hdmf-zarr", "lindi", "distributed", "matplotlib", "pydantic",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of Python, the system and the packages that matter; "not installed" for a missing one.

    Examples
    --------
    >>> versions()["nwb_lint"]
    '0.1.0'
    """
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def show_versions() -> None:
    """Print the versions of Python, the system and the packages that matter, for a bug report.

    Returns
    -------
    None
        The versions are printed, one a line.

    Examples
    --------
    >>> show_versions()
    python          3...
    system ...
    """
    for name, value in versions().items():
        print(f"{name:15s} {value}")

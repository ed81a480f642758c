"""The NWB extension ndx-lowrank: low-rank recurrent networks that were fitted to neural recordings.

Importing this package registers the types with pynwb. Every type is a name of this module.

Examples
--------
>>> import ndx_lowrank, pynwb
>>> issubclass(ndx_lowrank.LowRankLatentSeries, pynwb.TimeSeries)
True
"""

from __future__ import annotations

from pathlib import Path

import pynwb

NAMESPACE = "ndx-lowrank"
__version__ = "0.7.0"


def _classes() -> dict[str, type]:
    """The classes of all types of the extension, which is loaded from the YAML where no other package did."""
    catalog = pynwb.get_type_map().namespace_catalog
    if NAMESPACE not in catalog.namespaces:
        here = Path(__file__).parent
        folder = here / "spec" if (here / "spec").is_dir() else here.parent  # where it is installed; in its repository
        pynwb.load_namespaces(str(folder / f"{NAMESPACE}.namespace.yaml"))
        catalog = pynwb.get_type_map().namespace_catalog
    core, own = (set(catalog.get_namespace(name).get_registered_types()) for name in ("core", NAMESPACE))
    return {name: pynwb.get_class(name, NAMESPACE) for name in sorted(own - core)}


globals().update(_classes())
__all__ = [name for name in globals() if name.startswith(("LowRank", "FitAttribute"))]

"""An NWBFile in memory → an asset that the readers read as any file. The NWBFile stays as it is."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset

# Samples of a series that is not read, above which they are left out of the copy.
_MOST_VALUES = 10_000_000


def in_memory(nwbfile: Any, address: str, *, series: Collection[str] = (), unit_ids: np.ndarray | None = None) -> Asset:
    """The bytes that pynwb would write of an NWBFile, as an asset.

    The NWBFile can be written as before: it is built by a build manager of its own, as for an export. Samples of raw
    data, which no reader needs, are left out.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        New, or read from a file that is still open.
    address : str
        The name of the asset in messages.
    series : collection of str, default=()
        Paths or names of the series that are read: their samples are kept.
    unit_ids : array of str or None, default=None
        Ids of units that are texts, which pynwb does not write.

    Returns
    -------
    Asset

    Raises
    ------
    NWBError
        If pynwb cannot write it.
    """
    from hdmf.build import BuildManager
    from pynwb import NWBHDF5IO, get_manager

    read_io = nwbfile.read_io
    manager = get_manager() if read_io is None else BuildManager(read_io.manager.type_map)
    memory = io.BytesIO()
    file = h5py.File(memory, "w")
    with NWBHDF5IO(file=file, mode="w", manager=manager) as writer:  # it closes the file
        try:
            builder = manager.build(nwbfile, source=address, root=True, export=True)
            _leave_out_samples(builder, "", [one.strip("/") for one in series])
            writer.write_builder(builder, link_data=False, expandable=())
        except ContractError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RuntimeError) as error:
            raise NWBError(
                f"{address} cannot be written by pynwb: {one_line(error)}. An NWBFile is needed that is complete, and "
                "whose file is still open if it was read. Repair it."
            ) from error
        if unit_ids is not None:
            del file["units/id"]
            file["units/id"] = unit_ids.astype(object)
    return Asset(address, f"memory:/{nwbfile.object_id}", "memory", content=memory.getvalue())


def _leave_out_samples(group: Any, path: str, series: Collection[str]) -> None:
    """Take raw samples out of what will be written, except those of the series that are read, and compression off."""
    from hdmf.data_utils import AbstractDataChunkIterator, DataIO

    kept = any(path == one or path.endswith(f"/{one}") for one in series)
    for name, dataset in list(group.datasets.items()):
        data = dataset.data.data if isinstance(dataset.data, DataIO) else dataset.data
        of_series = "TimeSeries" in _types(group) and name in ("data", "timestamps")
        streamed = isinstance(data, AbstractDataChunkIterator)
        if of_series and not kept and (streamed or _is_raw(data)):
            del group.datasets[name]
        elif streamed:
            raise ContractError(
                f"{path}/{name} is an iterator over blocks, which can be read once only. Write the NWBFile, and read "
                "the file."
            )
        elif data is not dataset.data:
            dataset["data"] = data  # hdmf would keep our copy as the place of the user's data
    for name, inner in group.groups.items():
        _leave_out_samples(inner, f"{path}/{name}".strip("/"), series)


def _types(group: Any) -> tuple[str, ...]:
    """Whether a group is a TimeSeries: it has data, and a clock."""
    names = {*group.datasets, *group.links}
    clock = "timestamps" in names or "starting_time" in names
    return ("TimeSeries",) if "data" in names and clock else ()


def _is_raw(data: Any) -> bool:
    shape = getattr(data, "shape", None) or np.shape(data)
    return len(shape) > 1 or int(np.prod(shape, dtype=float)) > _MOST_VALUES

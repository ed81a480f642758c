"""NWB files in other stores than HDF5, opened as h5py objects: Zarr (as hdmf-zarr writes it) and LINDI.

The classes for Zarr derive from h5py's, as those of lindi do, so that code for HDF5 reads them too. They are read-only.
Only data of plain codecs are decoded, because other codecs can run any program: a pickle does. hdmf-zarr pickles
references in arrays of version 2; such an array is listed, and not read.
"""

from nwb_lint.nwb.storage.zarr.lindi import open_lindi, read_lindi, referenced_files
from nwb_lint.nwb.storage.zarr.stores import consolidate, no_zarr_metadata, open_zarr, written_version

__all__ = [
    "consolidate", "no_zarr_metadata", "open_lindi", "open_zarr", "read_lindi", "referenced_files", "written_version",
]  # fmt: skip

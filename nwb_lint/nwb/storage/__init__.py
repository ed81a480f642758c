"""Opening NWB files, wherever they are.

| module | subject |
|---|---|
| `source` | paths, addresses and patterns; `open_nwb` |
| `asset` | one file: its address and where its bytes are |
| `h5` | objects of an open file: kind, text, values |
| `metadata` | what a file says about itself |
| `digests` | SHA-256 of files |
| `http` | requests for ranges of bytes |
| `streaming` | remote HDF5 files for h5py |
| `prefetch` | ranges that are fetched in advance |
| `cache` | ranges on disk |
| `download` | copies of remote files |
| `dandi` | DANDI archives |
| `zarr` | Zarr folders and LINDI files as h5py objects |
| `atomic` | writing whole files or nothing |
"""

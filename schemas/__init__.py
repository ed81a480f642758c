"""The YAML of the NWB extension ndx-lowrank, in two wheels: as `nwb_lint.schemas`, and as `ndx_lowrank.spec`."""

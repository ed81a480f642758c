"""The hand-written NWB extension ndx-lowrank: YAML only, shipped inside the wheel as `nwb_lint.schemas`."""

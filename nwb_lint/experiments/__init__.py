"""Published results, computed again by this package alone: `nwb-lint reproduce`."""

"""Results of Valente, Pillow & Ostojic (NeurIPS 2022), computed again by this package alone: `nwb-lint reproduce`."""

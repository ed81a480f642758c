"""Results of Valente, Pillow & Ostojic (NeurIPS 2022), computed again: a module for each."""

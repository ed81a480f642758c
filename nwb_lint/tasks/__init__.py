"""Simulated tasks: trials, networks trained on them, and their activity as NWB sessions."""

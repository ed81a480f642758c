"""Benchmarks of other authors, with their published numbers beside ours: a module for each."""

"""Figures of how well fits predict held-out data, and of what was compared by it."""

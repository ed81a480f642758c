"""Expectation-maximization of the stochastic low-rank network: its steps, its iterations, and where it starts."""

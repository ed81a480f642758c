"""Tasks as numpy generators (`generate`), a network's rates as spikes (`record`), and the demo session
(`demo`).
"""

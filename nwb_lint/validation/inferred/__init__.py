"""Inputs that nobody recorded: their time courses, and whether data tell them from recurrence."""

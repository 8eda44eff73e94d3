"""Measures: pure functions from counts and answers to numbers. Numpy only."""

"""Labelled uses of a model, a vertical slice each."""

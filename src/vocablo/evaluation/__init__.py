"""Suites with published protocols."""

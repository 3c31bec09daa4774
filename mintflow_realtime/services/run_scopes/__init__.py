"""Runs and nodes as blocks of Python code."""

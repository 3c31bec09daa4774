"""Snapshots of runs and their events."""

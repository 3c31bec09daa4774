"""Revocations and spent tickets."""

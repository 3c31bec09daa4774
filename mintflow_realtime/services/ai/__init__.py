"""Requests to a model, from acceptance to their one terminal event."""

"""Authorise, act, publish: the one place that all three doors (sockets, HTTP, Python) go through."""

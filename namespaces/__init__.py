"""The namespaces: one class each, with one line for each command; `base` is the frame around every handler."""

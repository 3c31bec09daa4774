"""Scopes on a command line: repeated, or several in one, as in a token."""

from collections.abc import Sequence

import click

from mintflow_realtime.auth.policy import ADMIN, ALL_PERMISSIONS


def scope_text(given: Sequence[str]) -> str | None:
    """Return a token's scope, or None where none was given. A word that grants nothing is a usage error."""
    words = list(dict.fromkeys(word for text in given for word in text.replace(",", " ").split()))
    for word in words:
        if word != ADMIN and word not in ALL_PERMISSIONS:
            known = ", ".join([*sorted(ALL_PERMISSIONS), ADMIN])
            raise click.UsageError(f"{word!r} is no scope; known are {known}.")
    return " ".join(words) if given else None

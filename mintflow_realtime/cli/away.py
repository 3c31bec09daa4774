"""What `tail` and `watch` do while what they read is away: say so once, try on, and say when it is back."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import click

from mintflow_realtime.cli.client.errors import ClientError
from mintflow_realtime.cli.context import visible
from mintflow_realtime.cli.sources.base import Away

AGAIN_SECONDS = 1.0


class Patience:
    """A context manager for one try: an Away in it is waited out, what is final ends the command."""

    def __init__(self) -> None:
        self._away = False

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first try: what can't be read at all ends the command."""
        try:
            yield
        except (Away, ClientError) as error:
            raise click.ClickException(_sentence(error)) from error

    def reached(self) -> None:
        """Say that it is back, if it was away."""
        if self._away:
            click.echo("It is back.", err=True)
            self._away = False

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Away):
            if not self._away:
                click.echo(f"{_sentence(error)} Waiting.", err=True)
            self._away = True
            time.sleep(AGAIN_SECONDS)
            return True
        if isinstance(error, ClientError):
            raise click.ClickException(_sentence(error)) from error
        return False


def _sentence(error: Exception) -> str:
    text = visible(str(error))
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".")

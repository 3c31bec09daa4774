"""Errors of one message of a batch name it, as those of its decoding do: `$[3].message`."""

from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import InvalidPayload, TooLarge


@contextmanager
def of_batch(number: int, size: int) -> Iterator[None]:
    """Put `$[number]` before the path of an InvalidPayload or TooLarge, where there is more than one message."""
    try:
        yield
    except (InvalidPayload, TooLarge) as error:
        if size > 1:
            error.details["path"] = f"$[{number}]{error.details.get('path', '$')[1:]}"
        raise

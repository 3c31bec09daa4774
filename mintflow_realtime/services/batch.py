"""Batches: plain dictionaries become messages, and errors of one message name it (`$[3].message`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import msgspec

from mintflow_realtime.protocol.envelope import MAX_BATCH_EVENTS
from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.validation import mistyped

Message = TypeVar("Message", bound=msgspec.Struct)


@contextmanager
def of_batch(number: int, numbered: bool) -> Iterator[None]:
    """Put `$[number]` before the path of an InvalidPayload or TooLarge, where messages are `numbered`."""
    try:
        yield
    except (InvalidPayload, TooLarge) as error:
        if numbered:
            error.details["path"] = f"$[{number}]{error.details.get('path', '$')[1:]}"
        raise


def read_batch(
    kind: type[Message],
    given: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
    complete: Callable[[dict[Any, Any]], None] = lambda fields: None,
) -> list[Message]:
    """Return dictionaries as messages, 1 to 1,000.

    `names` are Python's spellings of the wire's; `complete` is given each one's fields to fill in what may be missing.

    Raises InvalidPayload with the number and field of what is wrong.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidPayload("Expected a list of dictionaries")
    found = list(islice(given, MAX_BATCH_EVENTS + 1))
    if not 1 <= len(found) <= MAX_BATCH_EVENTS:
        raise InvalidPayload(f"Expected 1 to {MAX_BATCH_EVENTS} of them, not {'more' if found else 'none'}")
    messages = []
    for number, one in enumerate(found):
        with of_batch(number, True):
            messages.append(read_one(kind, one, names, complete))
    return messages


def read_one(
    kind: type[Message],
    given: Any,
    names: Mapping[str, str],
    complete: Callable[[dict[Any, Any]], None] = lambda fields: None,
) -> Message:
    """Return a dictionary as a message, with `names` and `complete` as `read_batch` has them. Raises InvalidPayload."""
    if not isinstance(given, Mapping):
        raise InvalidPayload(f"Expected a dictionary, got {type(given).__name__}")
    fields: dict[Any, Any] = {}
    for name, value in given.items():
        wire = names.get(name, name)
        if wire in fields:
            raise InvalidPayload(f"It stands there twice, as {name} too", f"$.{wire}")
        # None is Python's way to leave a field out.
        if value is not None:
            fields[wire] = value
    complete(fields)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise mistyped(error) from None
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidPayload(f"Can't be read: {type(error).__name__}") from None

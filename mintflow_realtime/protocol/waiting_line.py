"""Who waits for its turn, in order, and may give up meanwhile."""

from collections import deque
from collections.abc import Callable
from typing import Any


def wait_in(line: deque[Any], turn: Any, pass_on: Callable[[], object]) -> None:
    """Wait at the end of `line` until `turn`, a new lock, is released.

    Who is ended meanwhile leaves the line, or lets the next one go where its turn had come just then.
    """
    turn.acquire()
    line.append(turn)
    try:
        turn.acquire()
    except BaseException:
        if turn in line:
            line.remove(turn)
        else:
            pass_on()
        raise

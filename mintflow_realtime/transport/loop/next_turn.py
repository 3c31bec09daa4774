"""What is to be done in the next turn of the event loop, after its sockets were looked at."""

from collections.abc import Callable
from typing import Any

from gevent import get_hub


def next_turn(act: Callable[[], object]) -> None:
    """Call `act` in the hub, in the loop's next turn.

    A callback of the loop, or `gevent.sleep(0)`, comes in the same turn: the loop runs fifty of them before it looks
    at its sockets.
    """
    timer: Any = get_hub().loop.timer(0.0)

    def fire() -> None:
        timer.stop()
        timer.close()
        act()

    timer.start(fire)

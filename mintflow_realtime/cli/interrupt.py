"""Ctrl-C in a command that follows something until then."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

import click

EXIT_CODE = 128 + signal.SIGINT
GRACE_SECONDS = 0.3


class Closable(Protocol):
    def close(self) -> None: ...


class Interrupt:
    """Whether Ctrl-C was pressed: to be asked in every turn of a loop that has no end of its own.

    What is being done is done to its end first, if that takes no longer than GRACE_SECONDS; then KeyboardInterrupt is
    raised wherever the program is, as it is at a second Ctrl-C. Not at once: raised within a library it may leave a
    lock held or be dropped (in a callback of Python's memory management or of its imports), and the loop would go on.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._timer = threading.Timer(GRACE_SECONDS, self._again)
        self._timer.daemon = True

    def press(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT."""
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        self._timer.start()

    def _again(self) -> None:
        # A signal, and not `interrupt_main`, which wakes nobody who sleeps.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def over(self) -> None:
        """Raise nothing any more."""
        self._timer.cancel()


@contextmanager
def until_interrupted(source: Closable) -> Iterator[Interrupt]:
    """Read `source`, and close it at the end; Ctrl-C is the command's end, with exit code 130.

    Where KeyboardInterrupt had to be raised the source stays as it is: it may hold a lock that closing waits for. A
    process that ignores SIGINT (one of `nohup`, or in the background of a script) goes on ignoring it.
    """
    interrupt = Interrupt()
    is_noted = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_noted:
        signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    except KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_CODE) from None
    except BaseException:
        source.close()
        raise
    else:
        source.close()
    finally:
        interrupt.over()
        if is_noted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupt.pressed:
        raise click.exceptions.Exit(EXIT_CODE)

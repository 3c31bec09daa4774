"""Signals that reach a worker between its fork and its own handlers.

Until then a worker has the master's handlers, which queue a signal for a loop that it has not: one that is told to stop
in these milliseconds, or while it loads, would forget it, and be killed after `graceful_timeout`.
"""

import os
import signal

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_registered = False
_due = False
_before: set[int] = set()


def let_next_fork_end() -> None:
    """Let the process that this one forks next end by the signals that stop a worker, from its first moment."""
    global _registered, _due
    if not _registered:
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_own)
        _registered = True
    _due = True


def _hold() -> None:
    global _before
    if _due:
        _before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)


def _let_go() -> None:
    global _due
    if _due:
        _due = False
        signal.pthread_sigmask(signal.SIG_SETMASK, _before)


def _own() -> None:
    if _due:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)
        _let_go()

"""A command as a process group of its own: signals go to all of it, and a terminal stays usable for it."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from types import FrameType

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STDIN, STDOUT = 0, 1


def leave_signals_to_the_main_thread() -> None:
    """Block them in this thread, and those that it starts: one that was delivered here would not wake who waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)


class Process:
    """One command. To be made, started and waited for by the main thread; others may signal it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._has_terminal = os.isatty(STDIN) and os.isatty(STDOUT)
        self.ended = threading.Event()

    def start(self, command: Sequence[str]) -> tuple[int, int]:
        """Start it, and return the descriptors that its stdout and stderr are read from. Raises OSError.

        SIGTERM, SIGINT and SIGHUP are passed on from here to its end, but those that this process ignores.
        """
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        try:
            process = _started(command)
        except OSError:
            self._end()
            raise
        self._process = process
        if self._has_terminal:
            # Who hands the terminal over from the background would be stopped for it.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            self._hand_terminal(os.getpgrp(), process.pid)
        for early in self._early:
            self.signal(early)
        assert process.stdout is not None and process.stderr is not None
        return process.stdout.fileno(), process.stderr.fileno()

    def wait(self) -> int:
        """Wait for its end, and return the exit code, or minus the signal that it died by."""
        process = self._process
        assert process is not None
        # Its number stays its own until it is waited for, so that no signal can reach another.
        while (found := os.waitid(os.P_PID, process.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)) is not None:
            if found.si_code != os.CLD_STOPPED:
                break
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG)
            self._stop_too(process.pid)
        self._hand_terminal(process.pid, os.getpgrp())
        self._end()
        return process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to all of the group, while it is there."""
        with self._lock:
            self._send(number)

    def cancel(self, kill_after: float) -> None:
        """Send SIGTERM, and SIGKILL where it goes on after so many seconds."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        if not self.ended.wait(kill_after):
            self.signal(signal.SIGKILL)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        # No lock: the main thread is here, and may hold it.
        if self._process is None:
            self._early.append(number)
        self._send(number)

    def _send(self, number: int) -> None:
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _end(self) -> None:
        for number in PASSED_ON:
            if signal.getsignal(number) == self._pass_on:
                signal.signal(number, signal.SIG_DFL)
        with self._lock:
            self.ended.set()

    def _stop_too(self, group: int) -> None:
        """Stop as the job was (by Ctrl-Z), until the shell continues us."""
        if not self._has_terminal:
            return
        self._hand_terminal(group, os.getpgrp())
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        self._hand_terminal(os.getpgrp(), group)

    def _hand_terminal(self, from_group: int, to_group: int) -> None:
        if not self._has_terminal:
            return
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(STDIN) == from_group:
                os.tcsetpgrp(STDIN, to_group)
        if from_group == os.getpgrp():
            # It may have read before it might.
            self.signal(signal.SIGCONT)


def _started(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    try:
        return _opened(command)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without a first line that says by what: as a shell does, and execvp(3).
    return _opened(["/bin/sh", shutil.which(command[0]) or command[0], *command[1:]])


def _opened(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

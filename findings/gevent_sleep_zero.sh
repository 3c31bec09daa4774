#!/usr/bin/env bash
# gevent 26.9.0: sleep(0) lets other greenlets run, and yet no socket is looked at before it was called 51 times.
#
# One would expect: a greenlet that cuts long work into slices, with gevent.sleep(0) between them, gives those who wait
# for a socket their turn after each slice. The documentation calls sleep(0) the way to yield without a delay.
# What happens: its wake-up is a callback of the event loop, and the loop runs up to 50 callbacks, each of which may add the
# next, before it asks the kernel for events. With slices of 2 ms, data that is in a socket's buffer already is read
# after some 100 ms. loop.run_callback is the same. A timer of no length (gevent.sleep(0.000001), loop.timer(0)) gives a
# turn each time, at the price of a watcher.
# Where two real things meet: cooperative "turns" and latency of sockets, as in servers that parse large messages.
# Seen with gevent 26.9.0 (libev), Python 3.11, Linux. Source: CALLBACK_CHECK_COUNT = 50 in gevent/_ffi/loop.py; only then is the
# interpreter's switch interval looked at too.
#
# Exit code 0 while it is so, 1 when it has changed, 2 when it can't be set up. Under two minutes; a socket pair, no network.
set -u
place=$(mktemp -d) || exit 2
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv" >/dev/null 2>&1 || exit 2
"$place/venv/bin/pip" --quiet --disable-pip-version-check install gevent==26.9.0 >/dev/null 2>&1 || exit 2
timeout 60 "$place/venv/bin/python" - <<'PYTHON'
import sys
import time

import gevent
from gevent import socket


def turns_until_read(pause):
    """Return after how many slices of 2 ms a greenlet reads what is in its socket already."""
    near, far = socket.socketpair()
    read = []
    reader = gevent.spawn(lambda: read.append(near.recv(1)))
    gevent.sleep(0.01)
    far.send(b"x")
    turns = 0
    while not read and turns < 1000:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        pause()
        turns += 1
    reader.join(1)
    near.close()
    far.close()
    return turns


by_zero = turns_until_read(lambda: gevent.sleep(0))
by_timer = turns_until_read(lambda: gevent.sleep(0.000001))
print(f"gevent {gevent.__version__}: read after {by_zero} slices with sleep(0), {by_timer} with a timer")
sys.exit(0 if by_zero > 10 and by_timer <= 3 else 1)
PYTHON

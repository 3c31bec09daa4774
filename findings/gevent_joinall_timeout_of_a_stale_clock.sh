#!/usr/bin/env bash
# gevent 26.9.0: joinall(several, timeout=2) may end at once with nothing done, where the loop has not run for two seconds.
#
# One would expect: a timeout counts from the call, as that of Greenlet.join and gevent.Timeout does.
# What happens: gevent.wait and joinall start a timer of the event loop, which counts from the loop's own clock, and that is
# as old as its last turn. After two seconds of computing (or of a call that doesn't yield) in the greenlet that calls
# joinall, the timer is over before any of the greenlets has run: joinall returns an empty list, and raises nothing.
# gevent.Timeout asks for `update=True`, which sets the clock first; `gevent.get_hub().loop.update_now()` before the
# call does the same.
# Where two real things meet: test suites and batch jobs that compute between two waits, on a machine that is busy.
# Seen with gevent 26.9.0 (libev), Python 3.11, Linux. Source: `_hub_primitives.py` (the timer of `_WaitIterator`),
# `_ffi/watcher.py` (`starting_timer_may_update_loop_time`), `timeout.py`.
#
# Exit code 0 while it is so, 1 when it has changed, 2 when it can't be set up. Under a minute; no network.
set -u
place=$(mktemp -d) || exit 2
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv" >/dev/null 2>&1 || exit 2
"$place/venv/bin/pip" --quiet --disable-pip-version-check install gevent==26.9.0 >/dev/null 2>&1 || exit 2
timeout 60 "$place/venv/bin/python" - <<'PYTHON'
import sys
import time

import gevent


def compute(seconds):
    gevent.sleep(0.01)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def joined(prepare):
    compute(3)
    two = [gevent.spawn(gevent.sleep, 0.1) for _ in range(2)]
    prepare()
    began = time.monotonic()
    done = len(gevent.joinall(two, timeout=2))
    return done, time.monotonic() - began


stale = joined(lambda: None)
fresh = joined(lambda: gevent.get_hub().loop.update_now())
compute(3)
one = gevent.spawn(gevent.sleep, 0.1)
one.join(timeout=2)
print(f"gevent {gevent.__version__}: after 3 s of computing, joinall of two with timeout=2 ends after {stale[1]:.3f} s, {stale[0]} done")
print(f"with loop.update_now() before it after {fresh[1]:.3f} s, {fresh[0]} done; join of one: {'done' if one.ready() else 'not done'}")
sys.exit(0 if stale[0] == 0 and stale[1] < 0.05 and fresh[0] == 2 and one.ready() else 1)
PYTHON

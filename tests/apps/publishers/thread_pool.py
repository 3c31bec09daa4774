"""A script with fifty threads that share one Emitter."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from mintflow_realtime import Emitter

THREADS = 50
# So that all of them publish at the same time.
together = threading.Barrier(THREADS)

with Emitter(os.environ["REDIS_URL"]) as emit, ThreadPoolExecutor(THREADS) as pool:

    def read_invoices(first: int) -> None:
        together.wait(30)
        for number in range(first, 500, THREADS):
            emit.logs.append("default", message=f"invoice {number}")

    for done in [pool.submit(read_invoices, first) for first in range(THREADS)]:
        done.result()

"""Lines of a pipe as log records: published as they come, many at once where they come fast."""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

import click

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.envelope import MAX_BATCH_EVENTS
from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from mintflow_realtime.protocol.logs import NewLog
from mintflow_realtime.services.logs import Logs

READ_BYTES = 65_536
# A record is at most 64 KB as JSON; what is longer is cut, and marked.
MAX_LINE_BYTES = 32_768
PATIENCE_SECONDS = 60.0
AGAIN_SECONDS = 0.5


def publish_lines(logs: Logs, tenant: str, fields: dict[str, Any], pipe: IO[bytes], tee: bool) -> int:
    """Publish each line of `pipe` that isn't empty, and return how many. Raises ClickException, RealtimeError."""
    count = 0
    for lines in _lines(pipe):
        if tee:
            for line in lines:
                click.echo(line)
        records = [_record(line, fields) for line in lines if line.strip()]
        for first in range(0, len(records), MAX_BATCH_EVENTS):
            some = records[first : first + MAX_BATCH_EVENTS]
            _publish(logs, tenant, some, count)
            count += len(some)
    return count


def _lines(pipe: IO[bytes]) -> Iterator[list[str]]:
    """Yield the whole lines that have come, each time that some have; a line is cut where it is too long to keep."""
    left = b""
    while chunk := pipe.read1(READ_BYTES):  # type: ignore[attr-defined]
        *whole, left = (left + chunk).split(b"\n")
        if len(left) > READ_BYTES:
            # The rest of this line is a line of its own: an endless one must not be kept whole.
            whole, left = [*whole, left], b""
        if whole:
            yield [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
    if left:
        yield [left.decode("utf-8", "replace")]


def _record(line: str, fields: dict[str, Any]) -> NewLog:
    metadata = dict(fields["metadata"] or {})
    if len(json.dumps(line)) > MAX_LINE_BYTES:
        metadata["truncated"] = True
        # Escaped, a character has up to twelve bytes.
        line = line[: MAX_LINE_BYTES // 12]
    return NewLog(
        log_level=fields["level"],
        message=line,
        flow_id=fields["flow_id"],
        run_id=fields["run_id"],
        node_id=fields["node_id"],
        metadata=metadata or None,
    )


def _publish(logs: Logs, tenant: str, records: Sequence[NewLog], before: int) -> None:
    # The same key for each try: where Redis's answer was lost, the next one is told that it happened.
    key, deadline = secrets.token_hex(16), time.monotonic() + PATIENCE_SECONDS
    told = False
    while True:
        try:
            logs.publish(Principal.system(tenant), records, key)
            return
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise click.ClickException(f"{_count(before)} were published, then: {error}") from error
            if not told:
                click.echo(f"{error} Waiting.", err=True)
            told = True
            time.sleep(AGAIN_SECONDS)
        except RealtimeError as error:
            raise click.ClickException(f"{_count(before)} were published, then: {error}") from error


def _count(number: int) -> str:
    return f"{number} record{'' if number == 1 else 's'}"

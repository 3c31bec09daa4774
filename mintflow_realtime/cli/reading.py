"""From where `tail` and `watch` read, by their options: Redis, or a server where `--url` names one."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.context import load_publisher_settings, load_settings
from mintflow_realtime.cli.sources.base import LogSource, RunSource
from mintflow_realtime.cli.sources.redis import RedisLogs, RedisRuns
from mintflow_realtime.cli.sources.socket import SocketLogs, SocketRuns

_Command = TypeVar("_Command", bound=Callable[..., Any])
# What `subscribe_logs` takes of the criteria of `filter_logs`.
_NARROWING = ("flowId", "runId", "minLevel")


def source_options(command: _Command) -> _Command:
    """Add `--url` and `--token`."""
    command = click.option("--token", metavar="TEXT", envvar="REALTIME_TOKEN", help="With --url: who asks.")(command)
    return click.option("--url", metavar="URL", help="Read from this server instead of from Redis.")(command)


def log_source(url: str | None, token: str | None, tenant: str | None, criteria: dict[str, Any]) -> LogSource:
    """Return where logs are read. Raises SettingError, click.UsageError."""
    if url:
        return SocketLogs(
            _target(url, token, tenant), {name: criteria[name] for name in _NARROWING if name in criteria}
        )
    _no_token(token)
    return RedisLogs(load_publisher_settings(), tenant or "")


def run_source(url: str | None, token: str | None, tenant: str | None) -> RunSource:
    """Return where runs are read. Raises SettingError, click.UsageError."""
    if url:
        return SocketRuns(_target(url, token, tenant))
    _no_token(token)
    return RedisRuns(load_publisher_settings(), tenant or "")


def _target(url: str, token: str | None, tenant: str | None) -> Target:
    return Target.parse(url, load_settings().socket_path, token, tenant)


def _no_token(token: str | None) -> None:
    if token and click.get_current_context().get_parameter_source("token") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--token is for a server: name it by --url.")

"""/logs: a tenant's log records, from history and live."""

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.logs import (
    Cleared,
    ClearLogs,
    FilterLogs,
    LogHistory,
    LogsPage,
    Subscribed,
    SubscribeLogs,
    Unsubscribed,
    UnsubscribeLogs,
)
from mintflow_realtime.services.logs import NAMESPACE, Logs


class LogsNamespace(Namespace):
    read_scope = "logs:read"
    only_subscribes = True

    def __init__(self, logs: Logs) -> None:
        super().__init__(NAMESPACE)
        self._logs = logs

    def joined(self, client: Client) -> None:
        self._logs.join(client.principal, client.sid)

    @handles(LogHistory)
    def log_history(self, client: Client, command: LogHistory) -> LogsPage:
        return self._logs.read(client.principal, command)

    @handles(FilterLogs)
    def filter_logs(self, client: Client, command: FilterLogs) -> LogsPage:
        return self._logs.read(client.principal, command)

    @handles(ClearLogs)
    def clear_logs(self, client: Client, command: ClearLogs) -> Cleared:
        return self._logs.clear(client.principal, command, client.sid)

    @handles(SubscribeLogs)
    def subscribe_logs(self, client: Client, command: SubscribeLogs) -> Subscribed:
        return self._logs.subscribe(client.principal, client.sid, command)

    @handles(UnsubscribeLogs)
    def unsubscribe_logs(self, client: Client, command: UnsubscribeLogs) -> Unsubscribed:
        return self._logs.unsubscribe(client.principal, client.sid)

"""/ai: requests to AI models, answered whole or as a stream that can be cancelled and resumed."""

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.ai import (
    AiAccepted,
    AiRequest,
    CancelStream,
    ClearHistory,
    HistoryCleared,
    ResumeStream,
    StreamCancelled,
    StreamResumed,
)
from mintflow_realtime.services.ai.events import NAMESPACE
from mintflow_realtime.services.ai.service import Ai


class AiNamespace(Namespace):
    read_scope = "ai:use"

    def __init__(self, ai: Ai) -> None:
        super().__init__(NAMESPACE)
        self._ai = ai

    def joined(self, client: Client) -> None:
        self._ai.joined(client.principal, client.sid)

    def recovered(self, client: Client, memo: str) -> None:
        self._ai.recovered(client.principal, client.sid, memo)

    def memo(self, client: Client) -> str:
        return self._ai.memo(client.sid)

    def left(self, client: Client) -> None:
        self._ai.left(client.principal, client.sid)

    @handles(AiRequest)
    def ai_request(self, client: Client, command: AiRequest) -> AiAccepted:
        return self._ai.request(client.principal, client.sid, command)

    @handles(CancelStream)
    def cancel_stream(self, client: Client, command: CancelStream) -> StreamCancelled:
        return self._ai.cancel(client.principal, command)

    @handles(ResumeStream)
    def resume_stream(self, client: Client, command: ResumeStream) -> StreamResumed:
        return self._ai.resume(client.principal, client.sid, command)

    @handles(ClearHistory, answer="history_cleared")
    def clear_history(self, client: Client, command: ClearHistory) -> HistoryCleared:
        return self._ai.clear(client.principal, command)

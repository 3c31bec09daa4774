"""/flows: runs of flows, as they happen."""

from namespaces.base import Namespace, handles
from namespaces.clients import Client
from protocol.flows import FlowSubscribed, FlowUnsubscribed, SubscribeFlow, UnsubscribeFlow
from services.flows import NAMESPACE, Flows


class FlowsNamespace(Namespace):
    read_scope = "flows:read"

    def __init__(self, flows: Flows) -> None:
        super().__init__(NAMESPACE)
        self._flows = flows

    @handles(SubscribeFlow)
    def subscribe_flow(self, client: Client, command: SubscribeFlow) -> FlowSubscribed:
        return self._flows.subscribe(client.principal, client.sid, command)

    @handles(UnsubscribeFlow)
    def unsubscribe_flow(self, client: Client, command: UnsubscribeFlow) -> FlowUnsubscribed:
        return self._flows.unsubscribe(client.principal, client.sid, command)

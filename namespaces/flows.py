"""/flows: runs of flows, as they happen."""

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.flows import FlowSubscribed, FlowUnsubscribed, SubscribeFlow, UnsubscribeFlow
from mintflow_realtime.protocol.runs import CancelRun, ListRuns, RunCancelling, RunList, RunSignalled, SignalRun
from mintflow_realtime.services.flows import NAMESPACE, Flows


class FlowsNamespace(Namespace):
    read_scope = "flows:read"
    only_subscribes = True

    def __init__(self, flows: Flows) -> None:
        super().__init__(NAMESPACE)
        self._flows = flows

    @handles(SubscribeFlow)
    def subscribe_flow(self, client: Client, command: SubscribeFlow) -> FlowSubscribed:
        return self._flows.subscribe(client.principal, client.sid, command)

    @handles(ListRuns)
    def list_runs(self, client: Client, command: ListRuns) -> RunList:
        return self._flows.runs(client.principal, command)

    @handles(CancelRun)
    def cancel_run(self, client: Client, command: CancelRun) -> RunCancelling:
        return self._flows.control.cancel(client.principal, command)

    @handles(SignalRun)
    def signal_run(self, client: Client, command: SignalRun) -> RunSignalled:
        return self._flows.control.signal(client.principal, command)

    @handles(UnsubscribeFlow)
    def unsubscribe_flow(self, client: Client, command: UnsubscribeFlow) -> FlowUnsubscribed:
        return self._flows.unsubscribe(client.principal, client.sid, command)

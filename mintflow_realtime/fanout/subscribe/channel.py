"""What this node holds of one tenant's channels: for how many clients, and how far it has heard."""

from dataclasses import dataclass, field

from gevent.event import Event

from mintflow_realtime.fanout.subscribe.order import Order


@dataclass(slots=True)
class Control:
    """A tenant's control channel, and for how many clients this node holds it."""

    tenant: str
    ready: Event = field(default_factory=Event)
    clients: int = 0
    idle_since: float = 0.0


@dataclass(slots=True)
class Channel(Control):
    """`confirmed` counts the subscription's confirmations: an alignment that began before the last is out of date.

    `breaks` counts how often its log broke off. `waiting` are those who wait until this node has heard a number, or
    lost its way.
    """

    name: str = ""
    namespace: str = ""
    order: Order = field(default_factory=Order)
    confirmed: int = 0
    epoch: str = ""
    breaks: int = 0
    waiting: list[tuple[int, Event]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.order.position.number if self.order.position else 0

"""The error tree: what publishing, the services and the HTTP API raise and answer. `RealtimeError` is its root."""

from mintflow_realtime.protocol.errors import (
    AuthenticationError as AuthenticationError,
)
from mintflow_realtime.protocol.errors import (
    AuthenticationRequired as AuthenticationRequired,
)
from mintflow_realtime.protocol.errors import (
    Conflict as Conflict,
)
from mintflow_realtime.protocol.errors import (
    Forbidden as Forbidden,
)
from mintflow_realtime.protocol.errors import (
    Internal as Internal,
)
from mintflow_realtime.protocol.errors import (
    InvalidPayload as InvalidPayload,
)
from mintflow_realtime.protocol.errors import (
    NotFound as NotFound,
)
from mintflow_realtime.protocol.errors import (
    RateLimited as RateLimited,
)
from mintflow_realtime.protocol.errors import (
    RealtimeError as RealtimeError,
)
from mintflow_realtime.protocol.errors import (
    RunCancelled as RunCancelled,
)
from mintflow_realtime.protocol.errors import (
    TenantDenied as TenantDenied,
)
from mintflow_realtime.protocol.errors import (
    TenantRequired as TenantRequired,
)
from mintflow_realtime.protocol.errors import (
    TokenExpired as TokenExpired,
)
from mintflow_realtime.protocol.errors import (
    TooLarge as TooLarge,
)
from mintflow_realtime.protocol.errors import (
    Unavailable as Unavailable,
)
from mintflow_realtime.protocol.errors import (
    UnknownEvent as UnknownEvent,
)

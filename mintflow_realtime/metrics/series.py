"""Everything that is counted. No label is a tenant, a user or a room: what anybody can invent is no label.

Standard library only, since processes that merely publish count too.
"""

from mintflow_realtime.metrics.counting import Counter, Gauge, Histogram, PlainCounter, Series

# Bounds in seconds. An event is heard within milliseconds; a token of a model takes seconds, a connection hours.
_AGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TOKENS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# Clients
CONNECTIONS = Gauge("mintflow_connections", "Clients that are connected to a namespace.", "transport", "namespace")
SESSIONS = Gauge("mintflow_sessions", "Engine.IO sessions, each of which may be in several namespaces.")
CONNECTS = Counter("mintflow_connects_total", "Clients that were let into a namespace.", "namespace")
REFUSALS = Counter("mintflow_refusals_total", "CONNECTs that were refused.", "namespace", "code")
CLOSES = Counter(
    "mintflow_closes_total", "Connections that ended: close code of the WebSocket, and why.", "code", "reason"
)
FRAME_FAULTS = Counter("mintflow_frame_faults_total", "WebSockets closed for what was wrong in a frame.", "code")
UPGRADES = PlainCounter("mintflow_upgrades_total", "Sessions that went over from polling to a WebSocket.")

# What clients ask for
COMMANDS = Counter("mintflow_commands_total", "Commands of typed namespaces.", "namespace", "command", "code")
COMMAND_SECONDS = Histogram("mintflow_command_seconds", "From a command's turn to its answer.", "namespace", "command")
STOCK_EVENTS = Counter("mintflow_stock_events_total", "Events that stock namespaces handled.", "namespace")
RATE_LIMITED = Counter(
    "mintflow_rate_limited_total", "Commands that waited for their sender's rate, or were refused for it.", "outcome"
)
RECEIVED_PACKETS = PlainCounter("mintflow_received_packets_total", "Engine.IO packets that clients sent.")
RECEIVED_BYTES = PlainCounter("mintflow_received_bytes_total", "Bytes of WebSockets and of polling bodies.")

# What clients are sent
SENT_PACKETS = PlainCounter("mintflow_sent_packets_total", "Engine.IO packets given to connections.")
SENT_BYTES = PlainCounter("mintflow_sent_bytes_total", "Their bytes, as WebSocket frames.")
DELIVERIES = Counter("mintflow_deliveries_total", "Published events given to clients, one each.", "namespace")
OUTBOX_BYTES = Gauge("mintflow_outbox_bytes", "What waits for clients that read slowly.")
OUTBOXES = Gauge("mintflow_outboxes", "Connections for which something waits.")
DROPS = Counter("mintflow_drops_total", "Messages that a full outbox let go of.", "policy")
SLOW_CONSUMERS = PlainCounter("mintflow_slow_consumers_total", "Connections closed because their outbox was full.")

# Recovery
RECOVERIES = Counter("mintflow_recoveries_total", "Clients that came back with a session.", "outcome")
RECOVERED_EVENTS = PlainCounter("mintflow_recovered_events_total", "Missed events that were sent again.")
RESYNCS = Counter("mintflow_resyncs_total", "Clients that were told to fetch state anew.", "reason")

# Fan-out
PUBLISHES = Counter("mintflow_publishes_total", "Calls that published, one event or a batch.", "namespace", "outcome")
PUBLISH_SECONDS = Histogram("mintflow_publish_seconds", "What they took.", "namespace")
PUBLISHED_EVENTS = Counter("mintflow_published_events_total", "Events that they published.", "namespace")
EVENT_AGE = Histogram(
    "mintflow_event_age_seconds", "Age of an event when this node hears it, by its publisher's clock.", bounds=_AGES
)
HEARD_EVENTS = PlainCounter("mintflow_heard_events_total", "Messages of tenants' channels that this node received.")
CATCH_UPS = PlainCounter("mintflow_catch_ups_total", "Times that a channel was aligned with its log.")
CAUGHT_UP_EVENTS = PlainCounter("mintflow_caught_up_events_total", "Events that were read from a log for that.")
EPOCH_CHANGES = PlainCounter("mintflow_epoch_changes_total", "New numberings of logs that this node saw begin.")
LOG_BREAKS = Counter("mintflow_log_breaks_total", "Channels whose continuity ended.", "reason")
IGNORED = Counter("mintflow_ignored_messages_total", "Messages of Redis's channels that were ignored.", "reason")
PROBE_AGE = Gauge("mintflow_health_probe_age_seconds", "Since this node heard its own health probe.")
CHANNELS = Gauge("mintflow_channels", "Channels that this node holds.")

# Redis
REDIS_CALLS = Counter("mintflow_redis_calls_total", "Commands and scripts.", "kind", "outcome")
REDIS_SECONDS = Histogram("mintflow_redis_call_seconds", "What they took, waiting for a connection included.", "kind")
POOL_WAITS = PlainCounter("mintflow_redis_pool_waits_total", "Calls that waited since all connections were in use.")
POOL_WAIT_SECONDS = PlainCounter("mintflow_redis_pool_wait_seconds_total", "How long they waited together.")

# HTTP
HTTP_REQUESTS = Counter("mintflow_http_requests_total", "Requests for our paths.", "route", "method", "status")
HTTP_SECONDS = Histogram("mintflow_http_request_seconds", "What those of the HTTP API took.", "route")

# AI
AI_REQUESTS = Counter("mintflow_ai_requests_total", "AI requests that ended.", "kind", "outcome")
AI_STREAMS = Gauge("mintflow_ai_streams", "AI requests at work.")
AI_FIRST_TOKEN = Histogram(
    "mintflow_ai_first_token_seconds", "From a request's acceptance to its first text.", bounds=_TOKENS
)

# Faults of ours
FAILURES = Counter("mintflow_failures_total", "What failed for a fault of ours or of a handler; see the log.", "door")

# The process
LOOP_LAG = Histogram("mintflow_loop_lag_seconds", "How late the event loop was with a timer.", bounds=_LAGS)
GREENLETS = Gauge("mintflow_greenlets", "Greenlets at work, by what they do.", "pool")
DRAINING = Gauge("mintflow_draining", "1 while this worker lets go of its clients.")
HANDED_OVER = Gauge("mintflow_handed_over_timestamp_seconds", "When this worker's numbers were read last.")
STARTED = Gauge("mintflow_start_timestamp_seconds", "When this worker began.")
CPU_SECONDS = PlainCounter("mintflow_cpu_seconds_total", "CPU time of this worker.")
MEMORY_BYTES = Gauge("mintflow_resident_memory_bytes", "Memory of this worker.")
OPEN_FILES = Gauge("mintflow_open_files", "Descriptors that this worker has open.")
MAX_FILES = Gauge("mintflow_max_files", "How many it may have.")
MAX_CONNECTIONS = Gauge("mintflow_max_connections", "Connections that this worker takes.")
BUILD_INFO = Gauge("mintflow_build_info", "1, with the versions that this worker runs.", "version", "python", "gevent")

ALL: list[Series] = [one for one in list(globals().values()) if isinstance(one, Series)]

# A counter that begins with 1 has not grown, to Prometheus: those that alerts look at begin with 0.
for _kind in ("command", "script"):
    for _outcome in ("ok", "error", "unavailable"):
        REDIS_CALLS.add(_kind, _outcome, by=0)
for _series, _labels in (
    (FAILURES, ("command", "stock_event", "http", "ai")),
    (LOG_BREAKS, ("gap", "epoch")),
    (RECOVERIES, ("recovered", "expired", "epoch", "gap", "taken", "to_pass_on", "unavailable")),
    (IGNORED, ("malformed", "oversized", "unaddressed", "unanswered", "pickled", "other_channel")),
    (RATE_LIMITED, ("slowed", "refused")),
    (DROPS, ("drop_oldest", "latest_only")),
):
    for _label in _labels:
        _series.add(_label, by=0)

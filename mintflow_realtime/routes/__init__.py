"""Flask blueprints: health, metrics and the HTTP API. Their names are public, as `request.blueprint` has them."""

API_BLUEPRINT = "mintflow_api"
HEALTH_BLUEPRINT = "mintflow_health"
METRICS_BLUEPRINT = "mintflow_metrics"
SOCKETS_BLUEPRINT = "mintflow_sockets"

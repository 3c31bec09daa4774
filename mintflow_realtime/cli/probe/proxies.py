"""Which proxy answers, by what it says of itself, and which of its settings each fault is mended by."""

from enum import StrEnum

from mintflow_realtime.cli.client.polling import Answer


class Fault(StrEnum):
    """What proxies do to clients."""

    UPGRADE = "upgrade"
    IDLE_WEBSOCKET = "idle websocket"
    IDLE_POLL = "idle poll"
    BODY = "body"
    CACHE = "cache"
    HEAD = "head"
    STICKY = "sticky"


# By the product's name in `Server` or `Via`, in lower case.
_MARKS = {
    "openresty": "nginx",
    "nginx": "nginx",
    "apache": "Apache",
    "caddy": "Caddy",
    "varnish": "Varnish",
    "envoy": "Envoy",
    "lighttpd": "lighttpd",
    "squid": "Squid",
    "ats/": "Traffic Server",
    "cloudflare": "Cloudflare",
    "h2o": "h2o",
    "nghttpx": "nghttpx",
    "haproxy": "HAProxy",
    "traefik": "Traefik",
}
# What deploy/ has is tried whole by tests/proxies; the others are not run here.
_SETTINGS: dict[Fault, dict[str, str]] = {
    Fault.UPGRADE: {
        "nginx": "in the location,\nproxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\n"
        'proxy_set_header Connection "upgrade";',
        "Apache": "ProxyPass … upgrade=websocket",
        "HAProxy": "nothing is needed, unless a rule deletes the headers Upgrade and Connection",
        "Varnish": "return (pipe) for such requests, and set bereq.http.Upgrade and bereq.http.Connection in vcl_pipe",
        "lighttpd": 'proxy.header = ("upgrade" => "enable")',
        "Squid": "http_upgrade_request_protocols websocket allow all",
        "Traffic Server": "a rule of its own: map ws://… ws://…, before the one for http",
        "Envoy": "upgrade_configs: [{upgrade_type: websocket}], without allow_connect",
        "h2o": "proxy.websocket: ON",
        "Cloudflare": "Network → WebSockets: on",
    },
    Fault.IDLE_WEBSOCKET: {
        "nginx": "proxy_read_timeout above it (90s), and proxy_send_timeout",
        "Apache": "Timeout or ProxyTimeout above it: the longer of both counts",
        "HAProxy": "timeout tunnel 1h",
        "Varnish": "varnishd -p pipe_timeout=3600",
        "lighttpd": "server.max-read-idle above it",
        "Envoy": "stream_idle_timeout, and timeout: 0s in the route",
        "Traefik": "respondingTimeouts.idleTimeout and readTimeout of the entry point",
        "h2o": "proxy.timeout.io above it",
        "nghttpx": "--backend-read-timeout above it",
    },
    Fault.IDLE_POLL: {
        "nginx": "proxy_read_timeout above it (90s)",
        "Apache": "ProxyTimeout or timeout= of ProxyPass above it",
        "HAProxy": "timeout server above it (60s); timeout tunnel doesn't count here",
        "Varnish": "first_byte_timeout of the backend",
        "Envoy": "timeout: 0s in every route",
        "h2o": "proxy.timeout.io above it",
        "nghttpx": "--backend-read-timeout above it",
    },
    Fault.BODY: {
        "nginx": "client_max_body_size 4m;",
        "Apache": "LimitRequestBody 4194304",
        "Caddy": "request_body { max_size 4MB }",
        "Envoy": "max_request_bytes of the buffer filter",
        "Traefik": "maxRequestBodyBytes of the buffering middleware",
        "Squid": "request_body_max_size 4 MB",
        "Cloudflare": "its limit of the plan",
    },
    Fault.CACHE: {
        "nginx": "proxy_cache off;",
        "Apache": "CacheDisable for the path",
        "Varnish": "return (pass) in vcl_recv for the path",
        "Squid": "cache deny all",
        "Cloudflare": "a cache rule that bypasses the path",
        "Traffic Server": "proxy.config.http.cache.http 0",
    },
    Fault.HEAD: {
        "nginx": "large_client_header_buffers 4 16k;",
        "Apache": "LimitRequestLine and LimitRequestFieldSize 16384",
        "HAProxy": "tune.bufsize 32768",
    },
    Fault.STICKY: {
        "nginx": "`map $arg_sid` by HOST_ID, as in deploy/nginx/mintflow.conf",
        "Apache": "RewriteCond on sid, by HOST_ID, as in deploy/apache/mintflow.conf",
        "HAProxy": "use_backend … if { url_param(sid) -m beg 01 }, by HOST_ID, as in deploy/haproxy/haproxy.cfg",
        "Traefik": "QueryRegexp(`sid`, `^01`), by HOST_ID, as in deploy/traefik/mintflow.yml",
        "Caddy": "a matcher on {http.request.uri.query.sid}, by HOST_ID, as in deploy/caddy/Caddyfile",
        "Envoy": "query_parameters in a route, by HOST_ID, as in deploy/envoy/envoy.yaml",
        "Varnish": 'req.url ~ "[?&]sid=01", by HOST_ID, as in deploy/varnish/default.vcl',
    },
}
_USUAL = ("nginx", "Apache", "HAProxy")


def proxy_of(answer: Answer) -> str:
    """Return the name of the proxy that an answer came through, '' where it tells of none.

    The server itself sends neither `Server` nor `Via`; HAProxy and Traefik don't either.
    """
    said = f"{answer.header('server')} {answer.header('via')} {'varnish' * bool(answer.header('x-varnish'))}".lower()
    for mark, name in _MARKS.items():
        if mark in said:
            return name
    return ""


def advice(fault: Fault, proxy: str) -> str:
    """Return the setting of `proxy` that mends `fault`; of the most usual ones where it isn't known which it is."""
    settings = _SETTINGS[fault]
    if proxy:
        return f"{proxy}: {settings.get(proxy, 'look for this in its manual')}"
    return "\n".join(f"{name}: {settings[name]}" for name in _USUAL if name in settings)

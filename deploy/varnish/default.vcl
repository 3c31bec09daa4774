# Varnish before the server, on one host or several: /etc/varnish/default.vcl, once your addresses are in. Seen with 7.1.
# Start varnishd with `-p pipe_timeout=60`: that is how long a WebSocket may be silent, and must be above
# SOCKET_PING_INTERVAL and SOCKET_PING_TIMEOUT together, which are 45 s. It is Varnish's default; less cuts them all.
# Changes without a restart: `varnishadm vcl.load new /etc/varnish/default.vcl && varnishadm vcl.use new`.
#
# varnishncsa and varnishlog write whole URLs, and a token or a ticket in them: `varnishncsa -F '%h %t %m %U %s %b'`.
# On the hosts, FORWARDED_ALLOW_IPS names this proxy's address, or its X-Forwarded headers mean nothing.
# Another host: HOST_ID=3 in its settings; a backend; a line in vcl_init, two in vcl_recv,
# and 3 in vcl_deliver and vcl_synth (varnishd's max_restarts is 4).

vcl 4.1;
import directors;

probe ready { .url = "/readyz"; .interval = 1s; .timeout = 1s; .window = 1; .threshold = 1; .initial = 1; }
# A poll waits for as long as first_byte_timeout.
backend host_01 { .host = "10.0.0.1"; .port = "3000"; .probe = ready; .connect_timeout = 2s; .first_byte_timeout = 60s; }
backend host_02 { .host = "10.0.0.2"; .port = "3000"; .probe = ready; .connect_timeout = 2s; .first_byte_timeout = 60s; }

sub vcl_init {
    new mintflow = directors.round_robin();
    mintflow.add_backend(host_01);
    mintflow.add_backend(host_02);
}

sub vcl_recv {
    # Set, not added to: what a client says of itself is dropped. Behind a TLS terminator that speaks the PROXY protocol,
    # client.ip is the client's; then the scheme is https.
    set req.http.X-Forwarded-For = client.ip;
    set req.http.X-Forwarded-Proto = "http";
    set req.http.X-Forwarded-Host = req.http.Host;
    # First requests, and the HTTP API: to hosts that say they are ready; then to each in turn, if it was none (below).
    set req.backend_hint = mintflow.backend();
    if (req.restarts == 1) { set req.backend_hint = host_01; }
    if (req.restarts == 2) { set req.backend_hint = host_02; }
    # Every request of a session must reach the host that has it. Its id begins with that host's HOST_ID in two
    # hexadecimal digits (10 is 0a).
    if (req.url ~ "[?&]sid=01") { set req.backend_hint = host_01; }
    if (req.url ~ "[?&]sid=02") { set req.backend_hint = host_02; }
    if (req.http.Upgrade ~ "(?i)^websocket$") { return (pipe); }
    # Never out of the cache: two polls with one URL would get one answer.
    return (pass);
}

sub vcl_pipe {
    # Both, or the host gets a plain request.
    set bereq.http.Upgrade = req.http.Upgrade;
    set bereq.http.Connection = "Upgrade";
}

sub vcl_deliver {
    # A host that is gone, full or draining costs nobody a first request: the next is asked. Not so for WebSockets, which
    # are piped: their clients try again by themselves. Nor for a POST: whether it happened is unknown.
    if (resp.status == 503 && req.method == "GET" && req.url !~ "[?&]sid=" && req.restarts < 2) { return (restart); }
}

sub vcl_synth {
    if (resp.status == 503 && req.method == "GET" && req.url !~ "[?&]sid=" && req.restarts < 2) { return (restart); }
}

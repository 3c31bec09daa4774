"""One connection's bytes: gunicorn worker, affinity, Engine.IO and Socket.IO fixes. Knows no tenant, no Redis."""

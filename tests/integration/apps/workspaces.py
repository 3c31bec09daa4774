"""The whole server with leases of some seconds, so that a test sees the users of a dead node leave sooner."""

import os

from flask import Flask

from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.namespaces.workspaces import WorkspacesNamespace
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.workspaces.presence import Presence
from mintflow_realtime.services.workspaces.service import Workspaces
from mintflow_realtime.stores.presence.store import PresenceStore
from mintflow_realtime.stores.workspaces.store import WorkspaceStore
from tests.integration.apps import measures

app = Flask(__name__)
realtime = SocketManager(app)
node, settings = realtime._node, realtime.settings
keys = Keys(settings.redis_prefix)
lease = PresenceStore(node.redis, keys, settings.workspace_ttl, float(os.environ.get("LEASE_SECONDS", "20")))
node.emitter.workspaces = Workspaces(
    node.emitter.publisher,
    WorkspaceStore(node.redis, keys, settings.workspace_ttl, settings.workspace_max_bytes),
    Presence(node.emitter.publisher, lease, settings.max_subscriptions),
    node.manager,
)
realtime.register_namespace(WorkspacesNamespace(realtime.workspaces))
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app

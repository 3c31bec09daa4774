"""The whole server with leases of some seconds, so that a test sees the users of a dead node leave sooner."""

import os

from flask import Flask

from namespaces.workspaces import WorkspacesNamespace
from protocol.scripts import Keys
from server import SocketManager
from services.presence import Presence
from services.workspaces import Workspaces
from stores.presence import PresenceStore
from stores.workspaces import WorkspaceStore
from tests.integration.apps import measures

app = Flask(__name__)
realtime = SocketManager()
node, settings = realtime._node, realtime.settings
keys = Keys(settings.redis_prefix)
lease = PresenceStore(node.redis, keys, settings.workspace_ttl, float(os.environ.get("LEASE_SECONDS", "20")))
realtime.workspaces = node.emitter.workspaces = Workspaces(
    node.emitter.publisher,
    WorkspaceStore(node.redis, keys, settings.workspace_ttl, settings.workspace_max_bytes),
    Presence(node.emitter.publisher, lease, settings.max_subscriptions),
    node.manager,
)
realtime.register_namespace(WorkspacesNamespace(realtime.workspaces))
realtime.init_app(app)
app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app

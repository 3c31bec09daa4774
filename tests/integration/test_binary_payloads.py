"""Attachments in the payloads of typed namespaces: refused with their place, and nothing of them is kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.plain_client import ACK, EVENT, Plain
from tests.servers import Node
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]


def hole(number: int = 0) -> dict[str, Any]:
    return {"_placeholder": True, "num": number}


def send(client: Plain, namespace: str, event: str, payload: Any, parts: int, id: int | None) -> Any:
    """Send an event with attachments; return the error that answers it."""
    client.send(f"45{parts}-{namespace},{'' if id is None else id}{json.dumps([event, payload])}")
    for number in range(parts):
        client.send(b"\x00\xff%d" % number)
    if id is None:
        return client.told(namespace, "error")
    return client._next(lambda message: message.kind == ACK and message.id == id).content[0]["error"]


@pytest.mark.parametrize("id", [7, None])
@pytest.mark.parametrize(
    ("payload", "parts", "path"),
    [
        ({"workspaceId": "w", "state": {"file": hole()}}, 1, "$.state.file"),
        ({"workspaceId": "w", "state": {"a": [1, {"b": [[], hole()]}], "c": hole(1)}}, 2, "$.state.a[1].b[1]"),
        ({"workspaceId": hole()}, 1, "$.workspaceId"),
        ({"workspaceId": "w", "patch": [{"op": "add", "path": "/x", "value": hole()}]}, 1, "$.patch[0].value"),
        (hole(), 1, "$"),
        ([hole()], 1, "$[0]"),
    ],
)
def test_bytes_are_refused_with_their_path(
    single_node: Node, new_tenant: NewTenant, id: int | None, payload: Any, parts: int, path: str
) -> None:
    client = new_tenant(single_node).plain("/workspaces")
    client.call("/workspaces", "join_workspace", {"workspaceId": "w"})
    error = send(client, "/workspaces", "update_workspace", payload, parts, id)
    assert (error["code"], error["path"], error["retryable"]) == ("invalid_payload", path, False)
    assert "bytes" in error["message"]
    # The connection goes on, and nothing was changed.
    answer = client.call("/workspaces", "join_workspace", {"workspaceId": "w"})
    assert answer["data"]["workspace"]["state"] == {}


@pytest.mark.parametrize(
    ("namespace", "command", "payload", "path"),
    [
        ("/logs", "filter_logs", {"search": hole()}, "$.search"),
        ("/flows", "subscribe_flow", {"flowId": hole()}, "$.flowId"),
        ("/ai", "ai_request", {"requestId": "r", "prompt": hole()}, "$.prompt"),
        ("/workspaces", "update_presence", {"workspaceId": "w", "presence": {"cursor": hole()}}, "$.presence.cursor"),
    ],
)
def test_no_command_takes_bytes(
    single_node: Node, new_tenant: NewTenant, namespace: str, command: str, payload: Any, path: str
) -> None:
    client = new_tenant(single_node).plain(namespace)
    error = send(client, namespace, command, payload, 1, 1)
    assert (error["code"], error["path"]) == ("invalid_payload", path)


def test_attachments_that_no_place_names_are_no_bytes_in_it(single_node: Node, new_tenant: NewTenant) -> None:
    client = new_tenant(single_node).plain("/workspaces")
    client.send('451-/workspaces,["join_workspace",{"workspaceId":"w"}]')
    client.send(b"\x00")
    assert client._next(lambda message: message.kind == EVENT).content[0] == "join_workspace"

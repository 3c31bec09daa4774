"""What is live in the shop, with the shop really running: a page hears of orders, whatever happens to it meanwhile."""

import pytest

from mintflow_realtime import errors

WITH_A_LAMP = {"product_id": 1, "quantity": 1}


def test_the_staff_sees_an_order_as_it_is_placed(live, mintflow_client) -> None:
    ann, sam = live("ann"), live("sam")
    page = mintflow_client("/orders", token=sam.ticket())
    placed = ann.post("/orders", product_id=1, quantity=2).json()
    assert placed["customer"] == "ann"
    assert page.wait_for("order_placed") == placed


def test_customers_hear_of_their_own_orders_alone(live, mintflow_client) -> None:
    ann, sam = live("ann"), live("sam")
    anns, sams = (mintflow_client("/orders", token=one.ticket()) for one in (ann, sam))
    order_id = ann.post("/orders", **WITH_A_LAMP).json()["orderId"]
    sams.wait_for("order_placed")
    shipped = sam.post(f"/admin/orders/{order_id}/ship").json()
    assert anns.wait_for("order_shipped") == shipped
    assert anns.events("order_placed") == sams.events("order_shipped") == []


def test_a_page_asks_for_the_orders_of_who_is_logged_in(live, mintflow_client) -> None:
    ann = live("ann")
    placed = [ann.post("/orders", **WITH_A_LAMP).json() for _ in range(3)]
    page = mintflow_client("/orders", token=ann.ticket(), headers=ann.cookies)
    assert page.call("list_orders", {"limit": 2})["orders"] == [placed[2], placed[1]]
    with pytest.raises(errors.InvalidPayload):
        page.call("list_orders", {"limit": 0})
    without_cookie = mintflow_client("/orders", token=ann.ticket())
    with pytest.raises(errors.Forbidden):
        without_cookie.call("list_orders")


def test_nobody_comes_in_without_a_ticket_or_into_other_namespaces(live, mintflow_client) -> None:
    ann = live("ann")
    with pytest.raises(errors.AuthenticationError):
        mintflow_client("/orders")
    for namespace in ("/logs", "/flows"):
        with pytest.raises(errors.Forbidden):
            mintflow_client(namespace, token=ann.ticket())


def test_a_page_that_loses_its_network_misses_nothing(live, mintflow_client) -> None:
    ann, sam = live("ann"), live("sam")
    page = mintflow_client("/orders", token=sam.ticket, recover=True)
    page.lose_network(0.5)
    placed = [ann.post("/orders", **WITH_A_LAMP).json() for _ in range(3)]
    assert [page.wait_for("order_placed") for _ in placed] == placed
    assert page.recovered


def test_a_killed_worker_costs_no_event(live, mintflow_server, mintflow_client) -> None:
    ann, sam = live("ann"), live("sam")
    page = mintflow_client("/orders", token=sam.ticket, recover=True)
    before = ann.post("/orders", **WITH_A_LAMP).json()
    mintflow_server.kill_worker()
    after = ann.post("/orders", **WITH_A_LAMP).json()
    assert [page.wait_for("order_placed", timeout=20) for _ in range(2)] == [before, after]


def test_an_order_is_an_order_though_redis_is_away(live, mintflow_server) -> None:
    ann = live("ann")
    mintflow_server.redis.stop()
    answer = ann.post("/orders", **WITH_A_LAMP)
    assert answer.status_code == 201
    assert f"Nobody was told of order {answer.json()['orderId']}" in mintflow_server.log
    assert len(ann.client.get("/orders").json()["orders"]) == 1

"""The shop's pages, as they were before anything was live."""


def test_a_customer_places_an_order_and_sees_it(visitor) -> None:
    ann = visitor().log_in("ann")
    assert "Hello ann" in ann.client.get("/").text
    placed = ann.post("/orders", product_id=1, quantity=2)
    assert placed.status_code == 201
    assert placed.json["cents"] == 9800
    assert ann.client.get("/orders").json["orders"] == [placed.json]


def test_no_more_is_sold_than_there_is(visitor) -> None:
    ann = visitor().log_in("ann")
    assert ann.post("/orders", product_id=3, quantity=1).status_code == 201
    assert ann.post("/orders", product_id=3, quantity=1).status_code == 409
    assert ann.post("/orders", product_id=3, quantity=0).status_code == 400


def test_the_staff_alone_ships(visitor) -> None:
    ann, sam = visitor().log_in("ann"), visitor().log_in("sam")
    order_id = ann.post("/orders", product_id=2, quantity=1).json["orderId"]
    assert ann.client.get("/admin").status_code == 403
    assert ann.post(f"/admin/orders/{order_id}/ship").status_code == 403
    assert sam.post(f"/admin/orders/{order_id}/ship").json["status"] == "shipped"
    assert sam.post(f"/admin/orders/{order_id}/ship").status_code == 404
    assert "shipped" in sam.client.get("/admin").text


def test_who_is_not_logged_in_is_sent_to_the_login(visitor) -> None:
    assert visitor().client.get("/orders").location == "/login"
    assert visitor().post("/login", name="ann", password="wrong").status_code == 200


def test_a_form_of_another_site_is_refused(visitor) -> None:
    ann = visitor().log_in("ann")
    assert ann.client.post("/orders", data={"product_id": 1, "quantity": 1}).status_code == 400

// A page of tests/apps/shop: connects to /orders with a ticket, and prints each order as it is placed.
// usage: shop.mjs URL TICKET
import { io } from "socket.io-client";

const [url, token] = process.argv.slice(2);
const orders = io(url + "/orders", { auth: { token } });
orders.on("connect", () => console.log("connected"));
orders.on("connect_error", (error) => console.log("refused", error.message));
orders.on("order_placed", (order) => console.log(JSON.stringify(order)));
setTimeout(() => process.exit(1), 60000);

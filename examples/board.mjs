// Adds a note to the board of examples/board.py and shows what the tenant sees: node examples/board.mjs [url]
import { io } from "socket.io-client";

const url = process.argv[2] ?? "http://127.0.0.1:3000";
const auth = process.env.TOKEN ? { token: process.env.TOKEN } : {};
const board = io(`${url}/board`, { auth });
const cheer = io(`${url}/cheer`, { auth });

const seen = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
const told = seen(board, "note_added");
const cheered = seen(cheer, "cheered");

await Promise.all([seen(board, "connect"), seen(cheer, "connect")]);
console.log("answer:", JSON.stringify(await board.emitWithAck("add_note", { text: "Buy milk", color: "pink" })));
console.log("event: ", JSON.stringify(await told));
console.log("wrong: ", JSON.stringify(await board.emitWithAck("add_note", { text: "Buy milk", colour: "pink" })));
console.log("stock: ", JSON.stringify(await cheer.emitWithAck("cheer", "Ann")), JSON.stringify(await cheered));
board.close();
cheer.close();

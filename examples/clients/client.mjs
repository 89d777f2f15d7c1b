// Everything that a client does, with the npm package centrifuge.

import { Centrifuge } from "centrifuge";
import WebSocket from "ws"; // Node only: browsers have their own

const url = process.argv[2] ?? "ws://localhost:8005/connection/websocket";
const client = new Centrifuge(url, { websocket: WebSocket });
const room = client.newSubscription("chat:lobby");

client.on("disconnected", ({ code, reason }) => console.log("disconnected:", code, reason));
room.on("subscribed", ({ recovered }) => console.log("subscribed, recovered:", recovered));
const received = new Promise((resolve) => room.once("publication", resolve));

room.subscribe();
client.connect();
await room.ready();

await room.publish({ text: "hello" });
console.log("received:", (await received).data);
const { publications } = await room.history({ limit: 10, since: { offset: 0, epoch: "" } });
console.log("history:", publications.map(({ data }) => data));
console.log("present:", Object.keys((await room.presence()).clients).length);
console.log("added:", (await client.rpc("add", [1, 2, 3])).data);
try {
  await client.publish("chat:attic", "from outside");
} catch (error) {
  console.log("refused:", error.code);
}
client.disconnect();

// The npm package ws on Node, without compression: a loop over the sockets of a topic.
import { WebSocketServer } from "ws";

const topics = new Map();

const server = new WebSocketServer(
  { host: "127.0.0.1", port: 0, perMessageDeflate: false },
  () => console.log(server.address().port),
);

server.on("connection", (socket, request) => {
  socket.on("error", () => {});  // the load side judges what went wrong
  if (request.url === "/publish") {
    socket.on("message", publish);
  } else {
    subscribe(socket, request.url.slice("/subscribe/".length));
  }
});

function subscribe(socket, topic) {
  const sockets = topics.get(topic) ?? new Set();
  topics.set(topic, sockets.add(socket));
  socket.on("close", () => sockets.delete(socket));
}

function publish(data) {
  const space = data.indexOf(" ");
  const payload = data.subarray(space + 1);
  for (const socket of topics.get(data.toString("utf8", 0, space)) ?? []) {
    socket.send(payload, { binary: false });
  }
}

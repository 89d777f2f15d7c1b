// The npm package ws on Node, without compression.
import { WebSocketServer } from "ws";

const server = new WebSocketServer(
  { host: "127.0.0.1", port: 0, perMessageDeflate: false },
  () => console.log(server.address().port),
);

server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => {});  // the load side judges what went wrong
});

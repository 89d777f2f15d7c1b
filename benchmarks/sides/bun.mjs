// Bun's own WebSocket server, which is uWebSockets (C++), without compression.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (!server.upgrade(request)) {
      return new Response("WebSocket only", { status: 426 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    message(socket, message) {
      socket.send(message);
    },
  },
});

console.log(server.port);

// Bun's own topics: subscribed to natively, published to natively (uWebSockets, C++).
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (!server.upgrade(request, { data: { pathname } })) {
      return new Response("WebSocket only", { status: 426 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    open(socket) {
      if (socket.data.pathname.startsWith("/subscribe/")) {
        socket.subscribe(socket.data.pathname.slice("/subscribe/".length));
      }
    },
    message(socket, message) {
      const space = message.indexOf(" ");
      server.publish(message.slice(0, space), message.slice(space + 1));
    },
  },
});

console.log(server.port);

// Connect to a URL, and when the connection is closed write what happened as one line of JSON.

import WebSocket from "ws";

const seen = { status: null, messages: [] };
const websocket = new WebSocket(process.argv[2]);

websocket.on("upgrade", (response) => { seen.status = response.statusCode; });
websocket.on("message", (data, isBinary) => { seen.messages.push(isBinary ? null : data.toString()); });
websocket.on("error", (error) => { seen.error = error.message; });
websocket.on("close", (code, reason) => {
  console.log(JSON.stringify({ ...seen, code, reason: reason.toString() }));
});

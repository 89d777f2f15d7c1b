import "./centrifuge.js"; // dist/centrifuge.js of the package

const url = new URL("connection/websocket", document.baseURI.replace("http", "ws"));
const client = new Centrifuge(url.href);
const room = client.newSubscription("chat:lobby");

for (const state of ["disconnected", "connecting", "connected"]) {
  client.on(state, () => (byId("state").value = state));
}
room.on("subscribed", async ({ recovered }) => {
  if (!recovered) show((await room.history({ limit: -1 })).publications);
});
room.on("publication", (publication) => show([publication]));
for (const event of ["join", "leave"]) {
  room.on(event, async () => {
    byId("here").value = (await room.presenceStats()).numClients;
  });
}
byId("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { text } = event.target;
  await room.publish(text.value); // after reconnecting, if need be
  text.value = "";
});
room.subscribe();
client.connect();

const messages = new Map(); // by offset: each is there once, and in its place
function show(publications) {
  for (const { offset, data } of publications) messages.set(offset, data);
  const lines = [...messages].sort(([one], [other]) => one - other).map(([, text]) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  });
  byId("messages").replaceChildren(...lines);
}

function byId(id) {
  return document.getElementById(id);
}

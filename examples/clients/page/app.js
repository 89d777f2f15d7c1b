import { Client } from "./hubbub.js";

const client = new Client("connection/websocket");
const room = client.subscribe("chat:lobby");

client.addEventListener("state", ({ detail }) => (byId("state").value = detail.state));
room.addEventListener("subscribed", async ({ detail }) => {
  if (!detail.recovered) show((await room.history()).publications);
});
room.addEventListener("publication", ({ detail }) => show([detail]));
for (const event of ["join", "leave"]) {
  room.addEventListener(event, async () => {
    byId("here").value = (await room.presenceStats()).clients;
  });
}
byId("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { text } = event.target;
  await room.publish(text.value); // once subscribed again, if need be
  text.value = "";
});
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

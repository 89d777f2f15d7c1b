// The page of `hubbub demo`: Hello World made visible, and the two example applications.

import { mount as mountChat } from "./chat/chat.js";
import { mount as mountLive } from "./live/live.js";

const url = new URL(".", location.href);
url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
url.hash = url.search = "";

const again = document.getElementById("hello-again");

/** Show where one of the three phases stands. */
function show(phase, state, detail, result = "") {
  const item = document.getElementById(phase);
  item.className = state;
  item.querySelector(".detail").textContent = detail;
  item.querySelector(".result").textContent = result;
}

/** Open a WebSocket to the Hello World handler, and show its three phases as they happen. */
function hello() {
  again.disabled = true;
  let messages = 0;
  let opened = false;
  const began = performance.now();
  const elapsed = () => `${(performance.now() - began).toFixed(0)} ms`;
  show("opening", "now", "The page asks: GET / with “Upgrade: websocket”.");
  show("messages", "", "Both sides may send whenever they like.");
  show("closing", "", "Either side ends it, with a code.");

  const socket = new WebSocket(url);
  socket.onopen = () => {
    opened = true;
    show("opening", "done", "The page asked: GET / with “Upgrade: websocket”.", `101 Switching Protocols, after ${elapsed()}`);
    show("messages", "now", "Both sides may send whenever they like.");
  };
  socket.onmessage = ({ data }) => {
    messages += 1;
    show("messages", "done", `From the server, after ${elapsed()}:`, data);
  };
  socket.onclose = ({ code, reason, wasClean }) => {
    if (!opened) {
      show("opening", "failed", "The page asked: GET / with “Upgrade: websocket”.", "no answer: is the server running?");
    } else {
      if (messages === 0) show("messages", "failed", "Both sides may send whenever they like.", "none came");
      const by = wasClean ? "The server said goodbye, the page answered." : "The connection was lost.";
      const name = code === 1000 ? " (normal closure)" : reason && ` (${reason})`;
      show("closing", wasClean ? "done" : "failed", by, `${code}${name}, after ${elapsed()}`);
    }
    again.disabled = false;
  };
}

document.getElementById("hello-url").textContent = url;
again.addEventListener("click", hello);
hello();
mountChat(document.getElementById("chat-here"));
mountLive(document.getElementById("live-here"));

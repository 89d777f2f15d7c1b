/** The chat as an element of a page: `mount(element)` builds it, and connects to the server it is from. */

import { Client } from "./hubbub.js";
import { Room } from "./room.js";
import { View } from "./view.js";

const ROOMS = ["lobby", "python", "random"];
const AWAY = 5_000; // ms that "Cut my connection" cuts it for
const MEMORY = "hubbub-chat"; // in localStorage: the name, and the room of the last visit

/**
 * Build the chat inside an element.
 *
 * @param {HTMLElement} element
 * @param {{whole?: boolean}} [options] whole: the page is the chat's own, with its title and hash
 * @returns {{client: Client, close: () => void}}
 */
export function mount(element, { whole = false } = {}) {
  const { name = "", room: lastRoom = "" } = recall();
  const state = {
    name, // accepted by the server, or on an earlier visit
    asked: null, // a name that the server has yet to accept
    nameProblem: "",
    choosing: !name, // whether a name is being chosen
    rooms: new Set(ROOMS),
    room: null,
    roomProblem: "",
    connection: { state: "disconnected", reason: "", until: 0, cut: false },
    latency: 0,
  };
  const rooms = new Map(); // those that are subscribed to, by name
  const client = new Client(new URL("connection/websocket", import.meta.url), {
    data: () => ({ name: state.asked ?? state.name }),
  });
  const view = new View(element, state, { chooseName, keepName, changeName, goTo, say, type, toggle });

  client.addEventListener("state", ({ detail }) => {
    const { reason, delay } = detail;
    const cut = state.connection.cut && detail.state === "connecting";
    state.connection = { state: detail.state, reason, until: performance.now() + delay, cut };
    if (detail.state === "connected") {
      state.latency = client.latency;
      if (state.asked !== null) acceptName();
    }
    view.showConnection();
  });

  client.addEventListener("error", ({ detail }) => {
    if (detail.temporary) return; // it is tried again
    const had = state.asked === null ? "" : state.name;
    Object.assign(state, { name: had, asked: null, nameProblem: detail.message, choosing: true });
    view.showName();
    if (had) client.connect(); // as before
  });

  function chooseName(name) {
    if (name === state.name && client.state === "connected") return keepName();
    Object.assign(state, { asked: name.trim(), nameProblem: "" });
    view.showName();
    client.disconnect();
    client.connect();
  }

  function acceptName() {
    Object.assign(state, { name: state.asked, asked: null, choosing: false });
    remember();
    view.showName();
    view.focusInput();
  }

  function changeName() {
    Object.assign(state, { choosing: true, nameProblem: "" });
    view.showName();
    view.focusInput();
  }

  function keepName() {
    Object.assign(state, { choosing: false, nameProblem: "" });
    view.showName();
    view.focusInput();
  }

  function goTo(wanted, replace = false) {
    const name = wanted.trim().toLowerCase();
    if (!name || name === state.room?.name) return;
    const last = state.room;
    state.room = rooms.get(name) ?? enter(name);
    state.room.comeBack();
    last?.leave();
    state.rooms.add(name);
    state.roomProblem = "";
    remember();
    if (whole) {
      document.title = `${name} · hubbub chat`;
      history[replace ? "replaceState" : "pushState"](null, "", `#${new URLSearchParams({ room: name })}`);
    }
    view.showRoom();
  }

  function enter(name) {
    const room = new Room(client, name, () => state.name);
    rooms.set(name, room);
    room.addEventListener("change", () => room === state.room && view.showLife());
    room.addEventListener("refused", ({ detail }) => {
      view.giveBack(detail);
      if (room === state.room) return;
      state.roomProblem = `not said in ${name}: ${room.problem}`;
      view.showRoom();
    });
    room.addEventListener("end", ({ detail }) => {
      rooms.delete(name);
      if (room !== state.room) return;
      // Nobody may enter it; the lobby is open to all.
      state.rooms.delete(name);
      state.room = null;
      goTo(ROOMS[0], true);
      state.roomProblem = detail;
      view.showRoom();
    });
    return room;
  }

  function say(text) {
    state.room.say(text);
  }

  function type() {
    state.room.type();
  }

  /** Cut the connection, or connect when it has ended for good. */
  function toggle() {
    if (client.state === "disconnected") return client.connect();
    if (client.state !== "connected") return;
    state.connection.cut = true;
    client.cut(AWAY);
  }

  function remember() {
    try {
      localStorage.setItem(MEMORY, JSON.stringify({ name: state.name, room: state.room.name }));
    } catch {
      // Storage is full or forbidden: the next visit begins anew.
    }
  }

  const leaving = new AbortController();
  if (whole) {
    addEventListener("hashchange", () => goTo(roomOfHash(), true), { signal: leaving.signal });
  }
  goTo((whole && roomOfHash()) || lastRoom || ROOMS[0], true);
  view.showName({ focus: false });
  if (name) client.connect();
  if (whole) view.focusInput();

  function close() {
    leaving.abort();
    for (const room of rooms.values()) room.close();
    client.disconnect();
    view.close();
  }

  return { client, close };
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(MEMORY)) ?? {};
  } catch {
    return {}; // nothing is stored, or nothing of ours
  }
}

function roomOfHash() {
  return new URLSearchParams(location.hash.slice(1)).get("room") ?? "";
}

const page = document.getElementById("hubbub-chat");
if (page) mount(page, { whole: true });

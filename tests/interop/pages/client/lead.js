// What tests lead in a page: clients and subscriptions by name, and all that they tell.

import { Client } from "/hubbub.js";

const EVENTS = ["state", "error", "subscribed", "publication", "join", "leave", "unsubscribed"];

const told = []; // {from, event, detail, taken}
const waiting = [];

function follow(name, target) {
  globalThis[name] = target;
  for (const event of EVENTS) {
    target.addEventListener(event, ({ detail }) => {
      told.push({ from: name, event, detail: detail instanceof Error ? plain(detail) : detail });
      for (const look of waiting.splice(0)) look();
    });
  }
}

const plain = ({ name, code, message, temporary }) => ({ name, code, message, temporary });

Object.assign(globalThis, {
  newClient(name, options = {}, path = "/connection/websocket") {
    follow(name, new Client(path, options));
  },

  newRoom(name, client, channel, options) {
    follow(name, client.subscribe(channel, options));
  },

  /** Wait for the next event, but for those that were waited for before, with such a detail. */
  async next(from, event, detail = {}) {
    const fits = (one) =>
      one.from === from && one.event === event && !one.taken &&
      Object.entries(detail).every(([key, value]) => one.detail[key] === value);
    for (;;) {
      const found = told.find(fits);
      if (found) {
        found.taken = true;
        return found.detail;
      }
      await new Promise((look) => waiting.push(look));
    }
  },

  heard: (from, event) => told.filter((one) => one.from === from && one.event === event).map(({ detail }) => detail),
  order: () => told.map(({ from, event }) => `${from} ${event}`),
  outcome: (promise) => promise.then((value) => ({ value }), plain),
});

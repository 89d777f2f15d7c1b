import { mount } from "./live.js";

mount(document.getElementById("live"));

import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { afterUpdate } from "./lib/update";
import { output } from "./lib/voice/output";

const target = document.getElementById("app");
if (!target) throw new Error("the page has no #app");
// What index.html shows meanwhile.
target.replaceChildren();
mount(App, { target });
afterUpdate(import.meta.url);
output.readyOnPress();

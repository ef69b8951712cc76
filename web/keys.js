// API keys of fal and Novita on ComfyUI's settings page. The server stores them in the pack's own file, not in
// ComfyUI's settings, which anyone who opens ComfyUI can read. The server never sends a key back.

import { app } from "../../scripts/app.js";
import { element } from "./elements.js";
import { ask } from "./server.js";

const PROVIDERS = { fal: "fal.ai", novita: "Novita AI" };

function keyOf(provider) {
  const row = element("div", { className: "flex flex-wrap items-center gap-2" });
  const field = element("input", { type: "password", autocomplete: "off", placeholder: "paste a key" });
  const status = element("span", { role: "status" });
  const tell = async (work) => {
    status.textContent = "…";
    try {
      status.textContent = await work();
    } catch (error) {
      status.textContent = error.message;
    }
  };
  const keepField = () => (field.value.trim() ? keep(field.value) : "paste a key first");
  const button = (text, work) => element("button", { textContent: text, onclick: () => tell(work) });
  const place = (keys) => (keys[provider] ? `set, from the ${keys[provider]}` : "no key");
  const keep = async (key) => {
    field.value = "";
    return place(await ask("keys", { provider, key }));
  };
  const test = async () => ((await ask("keys/test", { provider })).accepted ? "accepted" : "not accepted");

  row.dataset.wanDuetKey = provider;
  field.onkeydown = (event) => event.key === "Enter" && tell(keepField);
  row.append(
    field,
    button("Keep", keepField),
    button("Forget", () => keep("")),
    button("Test", test),
    status,
  );
  tell(async () => place(await ask("keys")));
  return row;
}

const settings = Object.entries(PROVIDERS).map(([provider, name]) => ({
  id: `WanDuet.Keys.${provider}`,
  category: ["Wan Duet", "Keys", provider],
  name: `Key of ${name}`,
  tooltip: "Stored in a file that only the user running this ComfyUI can read. Test costs nothing.",
  type: () => keyOf(provider),
}));
app.registerExtension({ name: "WanDuet.Keys", settings });

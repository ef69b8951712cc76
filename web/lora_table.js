// A table of LoRAs as plain DOM. It knows neither ComfyUI nor a node: rows come in by `show`, and each change goes out
// by `onChange(rows)`. A row is { file, high, low, on }, as docs/lora-rows.md says.

import { addStyle, element } from "./elements.js";

const STRONGEST = 100;
const FILES = "wan-duet-lora-files"; // one list of file names for all tables
const STYLE = `
.wan-duet-loras { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; min-height: 130px;
  contain: size; /* rows scroll in it: Nodes 2.0 would make the node as high as all of them */
  overflow-y: auto; box-sizing: border-box; padding: 4px; font: 12px sans-serif; color: var(--input-text, #ddd);
  background: var(--comfy-menu-bg, #222); border-radius: 4px; }
.wan-duet-loras table { width: 100%; border-collapse: collapse; table-layout: fixed; }
.wan-duet-loras th { text-align: left; font-weight: normal; color: var(--descrip-text, #999); position: sticky; top: -4px;
  background: inherit; }
.wan-duet-loras td { padding: 1px 2px; vertical-align: top; }
.wan-duet-loras input:not([type=checkbox]) { width: 100%; box-sizing: border-box; color: inherit; padding: 2px 4px;
  background: var(--comfy-input-bg, #111); border: 1px solid var(--border-color, #444); border-radius: 3px; }
.wan-duet-loras input:invalid { border-color: var(--error-text, #f55); }
.wan-duet-loras button { color: inherit; background: var(--comfy-input-bg, #111); border: 1px solid var(--border-color, #444);
  border-radius: 3px; cursor: pointer; padding: 1px 6px; }
.wan-duet-loras .off input:not([type=checkbox]), .wan-duet-loras .off small { opacity: 0.45; }
.wan-duet-loras small { display: block; color: var(--descrip-text, #999); overflow-wrap: anywhere; }
.wan-duet-loras .wrong { color: var(--error-text, #f55); }
.wan-duet-loras .handle { cursor: grab; border: none; background: none; padding: 2px; }
.wan-duet-loras .over { outline: 1px dashed var(--input-text, #ddd); }
`;

// files(): promise of the names that may be chosen. about(file): promise of one line about a file. none: stands for no file.
export function loraTable({ onChange, files, about, none }) {
  addStyle("wan-duet-lora-table", STYLE);
  const body = element("tbody");
  const problem = element("div", { className: "wrong", role: "alert" });
  const everything = element("input", { type: "checkbox", title: "Turn all on or off" });
  const root = element(
    "div",
    { className: "wan-duet-loras" },
    element("table", {}, header(everything), body),
    element("button", { textContent: "+ Add LoRA", onclick: () => change((all) => [...all, { file: none, high: 1, low: 1, on: true }]) }),
    problem,
  );
  let rows = [];
  let dragged = null;

  function change(edit) {
    rows = edit(rows);
    draw();
    onChange(rows);
  }
  const edit = (at, values) => change((all) => all.map((row, i) => (i === at ? { ...row, ...values } : row)));
  const remove = (at) => change((all) => all.filter((_, i) => i !== at));
  function move(from, to) {
    if (to < 0 || to >= rows.length || from === to) return;
    change((all) => {
      const rest = all.filter((_, i) => i !== from);
      return [...rest.slice(0, to), all[from], ...rest.slice(to)];
    });
    body.rows[to].querySelector(".handle").focus();
  }

  function draw() {
    body.replaceChildren(...rows.map(line));
    everything.checked = rows.length > 0 && rows.every((row) => row.on);
  }

  function line(row, at) {
    const note = element("small");
    const file = element("input", {
      value: row.file === none ? "" : row.file, placeholder: "choose a file", title: row.file,
      onchange: () => edit(at, { file: file.value.trim() || none }),
    });
    file.setAttribute("list", FILES);
    const made = element(
      "tr",
      { className: row.on ? "" : "off", ondragover: (event) => event.preventDefault() },
      cell(element("input", { type: "checkbox", checked: row.on, onchange: (event) => edit(at, { on: event.target.checked }) })),
      cell(file, note),
      cell(strength(row.high, "high", (high) => edit(at, { high }))),
      cell(strength(row.low, "low", (low) => edit(at, { low }))),
      cell(handle(at), element("button", { textContent: "×", title: "Remove", onclick: () => remove(at) })),
    );
    made.ondragenter = () => made.classList.add("over");
    made.ondragleave = (event) => made.contains(event.relatedTarget) || made.classList.remove("over");
    made.ondrop = (event) => {
      event.preventDefault();
      event.stopPropagation(); // ComfyUI would look for a workflow in it
      move(dragged, at);
    };
    describe(row, file, note);
    return made;
  }

  function handle(at) {
    const made = element("button", { className: "handle", textContent: "☰", title: "Drag, or press ↑ and ↓", draggable: true });
    made.ondragstart = () => (dragged = at);
    made.onkeydown = (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation(); // of the canvas, which would move the node
      move(at, at + step);
    };
    return made;
  }

  async function describe(row, file, note) {
    if (row.file === none) return;
    const known = (await files()).includes(row.file);
    const twice = rows.filter((other) => other.file === row.file).length > 1;
    const wrong = known ? twice && "in the table twice" : "not in models/loras";
    file.setCustomValidity(wrong || "");
    if (wrong) note.className = "wrong";
    note.textContent = note.title = wrong || (await about(row.file));
  }

  everything.onchange = () => change((all) => all.map((row) => ({ ...row, on: everything.checked })));
  offerFiles(files);
  return {
    root,
    show(shown, wrong = "") {
      problem.textContent = wrong;
      if (JSON.stringify(shown) === JSON.stringify(rows)) return; // drawing again would take the focus away
      rows = shown;
      draw();
    },
  };
}

const cell = (...children) => element("td", {}, ...children);

function header(everything) {
  const widths = { "": "24px", file: "", high: "58px", low: "58px", " ": "52px" };
  const cells = Object.entries(widths).map(([name, width]) => {
    const made = element("th", {}, name.trim() || (name ? "" : everything));
    made.style.width = width;
    return made;
  });
  return element("thead", {}, element("tr", {}, ...cells));
}

function strength(value, name, onEdit) {
  const made = element("input", {
    type: "number", value, min: -STRONGEST, max: STRONGEST, step: "any", title: `Strength on the ${name}-noise expert`,
  });
  made.onchange = () => made.checkValidity() && made.value !== "" && onEdit(Number(made.value));
  made.onkeydown = (event) => {
    const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key]; // any value may be typed, so the browser steps by 1
    if (!step) return;
    event.preventDefault();
    made.value = Math.round((Number(made.value) + step) * 1000) / 1000;
  };
  return made;
}

async function offerFiles(files) {
  const names = await files();
  const list = document.getElementById(FILES) ?? document.body.appendChild(element("datalist", { id: FILES }));
  list.replaceChildren(...names.map((value) => element("option", { value })));
}

// Makes DOM elements: element("button", { textContent: "Add", onclick }, child, ...).

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Adds a style sheet to the page once. Its colours are ComfyUI's own variables, so that it follows the theme.
export function addStyle(id, text) {
  if (document.getElementById(id)) return;
  document.head.append(element("style", { id, textContent: text }));
}

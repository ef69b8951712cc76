// Makes DOM elements: element("button", { textContent: "Add", onclick }, child, ...).

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Makes these the children of a list. Those that are there stay in the page: a video that is taken out stops.
export function arrange(list, made) {
  made.forEach((one, at) => {
    const there = list.children[at];
    if (there === one) return;
    if (there && !made.includes(there)) there.replaceWith(one);
    else list.insertBefore(one, there ?? null);
  });
  while (list.children.length > made.length) list.lastElementChild.remove();
}

// Adds a style sheet to the page once. Its colours are ComfyUI's own variables, so that it follows the theme.
export function addStyle(id, text) {
  if (document.getElementById(id)) return;
  document.head.append(element("style", { id, textContent: text }));
}

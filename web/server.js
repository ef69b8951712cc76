// Asks a route of this pack: GET without a body, else POST with it as JSON. Throws what the server says went wrong.

import { api } from "../../scripts/api.js";

export async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  const sent = body && { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await api.fetchApi(`/wan_duet/${path}`, sent);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// Finds nodes of the open graph.

import { app } from "../../scripts/app.js";

// By the id of its execution: "5:7" is node 7 in the subgraph of node 5.
export function nodeAt(executionId) {
  const [first, ...inside] = executionId.split(":");
  const start = (app.rootGraph ?? app.graph).getNodeById(Number(first));
  return inside.reduce((node, id) => node?.subgraph?.getNodeById(Number(id)), start);
}

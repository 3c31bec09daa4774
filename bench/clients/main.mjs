// The load generator: reads one JSON object a line, `{"do": …}`, and answers each with one.

import { createInterface } from "node:readline";
import { tally } from "./connection.mjs";
import * as measures from "./measures.mjs";
import * as recovery from "./recovery.mjs";

const doing = { ...measures, ...recovery };

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  let answer;
  try {
    answer = await doing[name](options);
  } catch (error) {
    answer = { error: `${name}: ${error.stack ?? error}` };
  }
  console.log(JSON.stringify({ ...answer, broken: tally.broken }));
}
process.exit(0);

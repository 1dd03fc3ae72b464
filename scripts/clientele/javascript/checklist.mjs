// Checks that are carried out one by one and told as JSON lines; the twin of checks/checklist.py.

const MOST_SAID = 400;

export class Skipped extends Error {}

export const target = JSON.parse(process.env.MESHNODE_CLIENTS_TARGET);

export function same(found, wanted, what) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (left !== right) throw new Error(`${what}: expected ${right}, found ${left}`);
}

export function truth(fact, what) {
  if (!fact) throw new Error(what);
}

// The error that `call` rejects with, which must be of `kind`.
export async function refused(call, kind) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    if (error instanceof kind) return error;
    throw new Error(`${error.constructor.name} (${error.status}) instead of ${kind.name}: ${error.message}`);
  }
  throw new Error(`answered instead of ${kind.name}: ${JSON.stringify(answer).slice(0, 80)}`);
}

export async function collect(stream) {
  const found = [];
  for await (const one of stream) found.push(one);
  return found;
}

export async function run(checks, wanted) {
  for (const [check, judge] of Object.entries(checks)) {
    if (wanted.length && !wanted.some((word) => check.includes(word))) continue;
    const began = performance.now();
    let outcome = "passed";
    let said = "";
    try {
      await judge();
    } catch (error) {
      outcome = error instanceof Skipped ? "skipped" : "failed";
      said = `${error.message}`.replace(/\s+/g, " ").slice(0, MOST_SAID);
    }
    const took_s = Math.round((performance.now() - began) / 10) / 100;
    console.log(JSON.stringify({ check, outcome, said, took_s }));
  }
}

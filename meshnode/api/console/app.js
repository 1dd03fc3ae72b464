// The chat page: a plain client of the node's own OpenAI-compatible API. It keeps nothing once it is closed.
const $ = (id) => document.getElementById(id);
const log = $("log");
const prompt = $("prompt");
let messages = [];
let running = null; // the AbortController of the answer under way

marked.use({ gfm: true, breaks: true });
const SAFE = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ["img", "style", "form", "input", "button", "textarea", "select", "video", "audio", "picture", "source"],
  FORBID_ATTR: ["style", "id", "name", "class"],
  ALLOW_DATA_ATTR: false,
};
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function nearBottom() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

function follow(wasNear) {
  if (wasNear) log.scrollTop = log.scrollHeight;
}

// --- the conversation on screen -----------------------------------------------------------------

function addTurn(role, text) {
  $("empty").hidden = true;
  const body = element("div", { className: "body", textContent: text });
  const turn = element("article", { className: role }, body);
  if (role === "user") turn.textContent = text;
  turn.setAttribute("aria-label", role === "user" ? "You" : "Model");
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  return turn;
}

function showMarkdown(turn, text) {
  const near = nearBottom();
  turn.querySelector(".body").innerHTML = DOMPurify.sanitize(marked.parse(text), SAFE);
  follow(near);
}

function addFooter(turn, text, notes) {
  const near = nearBottom();
  const copy = element("button", { type: "button", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  const foot = element("footer", {}, ...notes.map((note) => element("span", { textContent: note })));
  if (text) foot.prepend(copy);
  turn.append(foot);
  follow(near);
}

function showError(turn, problem, retry) {
  const near = nearBottom();
  if (turn.querySelector(".body").textContent.trim() === "") turn.remove();
  const failed = addTurn("error", problem);
  failed.setAttribute("role", "alert");
  const again = element("button", { type: "button", textContent: "Try again" });
  again.addEventListener("click", () => { failed.remove(); if (turn.isConnected) turn.remove(); retry(); });
  failed.append(element("footer", {}, again));
  follow(near);
}

// --- asking ---------------------------------------------------------------------------------------

function numberOf(id) {
  const value = $(id).value.trim();
  return value === "" ? undefined : Number(value);
}

function requestBody() {
  const system = $("system").value.trim();
  return JSON.stringify({
    model: $("model").value || undefined,
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: numberOf("temperature"),
    max_tokens: numberOf("max_tokens"),
    seed: numberOf("seed"),
  });
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const lines = held.split("\n");
      held = lines.pop();
      for (const line of lines) {
        if (line.startsWith(":")) yield { waiting: line.slice(1).trim() };
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function problemOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The node answered ${response.status} ${response.statusText}.`;
  }
}

async function ask() {
  const turn = addTurn("assistant running", "");
  running = new AbortController();
  busy(true);
  const answer = { text: "", usage: null, timings: null, finish: null };
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: requestBody(),
      signal: running.signal,
    });
    if (!response.ok) throw new Error(await problemOf(response));
    await receive(response, turn, answer);
    finish(turn, answer);
  } catch (error) {
    turn.classList.remove("running");
    if (error.name === "AbortError") finish(turn, { ...answer, finish: "stopped" });
    else showError(turn, error instanceof TypeError ? `The node does not answer (${error.message}). Is it running?` : error.message, ask);
  } finally {
    running = null;
    busy(false);
    refresh();
  }
}

async function receive(response, turn, answer) {
  let shown = 0;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    if (event.waiting !== undefined) {
      if (event.waiting) $("node").textContent = event.waiting;
      continue;
    }
    answer.usage = event.usage ?? answer.usage;
    answer.timings = event.timings ?? answer.timings;
    const choice = event.choices?.[0];
    answer.text += choice?.delta?.content ?? "";
    answer.finish = choice?.finish_reason ?? answer.finish;
    if (performance.now() - shown > 80) { // parsing the whole answer for each token would be quadratic
      showMarkdown(turn, answer.text);
      shown = performance.now();
    }
  }
}

function finish(turn, answer) {
  turn.classList.remove("running");
  if (answer.text === "" && answer.finish === "stopped") {
    turn.remove();
    return;
  }
  showMarkdown(turn, answer.text);
  messages.push({ role: "assistant", content: answer.text });
  const notes = [];
  if (answer.usage) notes.push(`${answer.usage.completion_tokens} tokens`);
  const speed = answer.timings?.predicted_per_second;
  if (speed) notes.push(`${speed.toFixed(1)} tokens/s`);
  if (answer.finish === "length") notes.push("cut at the token limit");
  if (answer.finish === "stopped") notes.push("stopped by you");
  addFooter(turn, answer.text, notes);
}

function busy(now) {
  $("send").hidden = now;
  $("stop").hidden = !now;
  $("new").disabled = now;
  log.setAttribute("aria-busy", String(now)); // read the answer out once, when it is whole
  prompt.focus({ preventScroll: true });
}

// --- what the node can serve ---------------------------------------------------------------------

function describe(status, listed, chosen) {
  const model = status.models.find((each) => each.id === chosen);
  const entry = listed.find((each) => each.id === chosen);
  if (entry?.owned_by === "mesh") return describeMesh(entry);
  if (!chosen) return "No model yet: meshnode pull default";
  if (!model) return `${chosen} loads on the first question`;
  if (model.state === "failed") return `${model.id} failed: ${model.reason}`;
  if (model.state === "loading") return `${model.id} is loading (${Math.round(100 * model.progress)} %)`;
  if (model.state === "unloaded") return `${model.id} loads on the first question`;
  const where = model.gpu_layers > 0 ? `${model.gpu_layers} of ${model.layers} layers on the GPU` : "on the CPU";
  const speed = model.decode_tps ? `, ${model.decode_tps.toFixed(0)} tokens/s measured` : "";
  const small = /135m/i.test(model.id) ? ". A model this small answers simple questions only." : "";
  return `${model.id}: ${where}, ${model.context_length} tokens of context${speed}${small}`;
}

function describeMesh(entry) {
  const count = entry.providers.length;
  const who = count === 1 ? "1 peer" : `${count} peers`;
  const speed = entry.decode_tps ? `, ${entry.decode_tps.toFixed(0)} tokens/s as they say` : "";
  return `${entry.id}: on the mesh, ${who}${speed}, ${entry.context_length} tokens of context. Whoever answers can read what you write.`;
}

async function refresh() {
  try {
    const [models, status] = await Promise.all(
      ["/v1/models", "/api/status"].map(async (path) => (await fetch(path)).json()),
    );
    const select = $("model");
    const chosen = select.value;
    const ids = models.data.map((model) => model.id);
    if (ids.join() !== [...select.options].map((option) => option.value).join()) {
      select.replaceChildren(...ids.map((id) => element("option", { value: id, textContent: id })));
      if (ids.includes(chosen)) select.value = chosen;
    }
    const note = describe(status, models.data, select.value);
    $("node").textContent = note;
    $("node").classList.toggle("bad", / failed: /.test(note));
  } catch {
    $("node").textContent = "The node does not answer. Start it with: meshnode up";
    $("node").classList.add("bad");
  }
}

// --- keys and buttons ------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running) return;
  prompt.value = "";
  grow();
  messages.push({ role: "user", content: text });
  addTurn("user", text);
  ask();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
});
function grow() { // browsers without field-sizing
  if (CSS.supports("field-sizing", "content")) return;
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}
prompt.addEventListener("input", grow);
$("stop").addEventListener("click", () => running?.abort());
$("model").addEventListener("change", refresh);
$("new").addEventListener("click", () => {
  messages = [];
  for (const turn of log.querySelectorAll("article")) turn.remove();
  $("empty").hidden = false;
  prompt.focus();
});
$("base").textContent = `${location.origin}/v1`;
refresh();
setInterval(() => { if (!running && document.visibilityState === "visible") refresh(); }, 5000);
prompt.focus();

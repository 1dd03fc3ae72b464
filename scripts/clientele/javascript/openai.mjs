// What the official `openai` package for Node must be given.

import OpenAI from "openai";

import { Skipped, collect, refused, run, same, target, truth } from "./checklist.mjs";

const model = target.model;
const messages = [{ role: "user", content: "Say hello." }];
const question = [{ role: "user", content: "What is the weather in Paris?" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 }, unit: { enum: ["celsius", "fahrenheit"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "get_weather", parameters, strict: true } };
const forced = { tool_choice: "required", parallel_tool_calls: false, temperature: 0 };
const flatWeather = { type: "function", name: "get_weather", parameters, strict: true };

function client(url, key, maxRetries = 0) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries, timeout: 90_000 });
}

const sdk = client(target.api, "unused");
const embedder = client(target.embeddings, "unused");

function chat(asked) {
  return sdk.chat.completions.create({ model, messages, max_tokens: 16, ...asked });
}

function respond(asked) {
  return sdk.responses.create({ model, input: "Say hello.", max_output_tokens: 16, ...asked });
}

function isWeather(text) {
  const found = JSON.parse(text);
  same(Object.keys(found).sort(), ["city", "unit"], "arguments");
}

function cosine(one, other) {
  const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
  return dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
}

const checks = {
  "chat: an answer, its usage adds up": async () => {
    const answer = await chat({});
    truth(answer.choices[0].message.content, "no text");
    same(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens, "total_tokens");
  },
  "chat: a stream of deltas, role first, finish last": async () => {
    const chunks = await collect(await chat({ stream: true }));
    same(chunks[0].choices[0].delta.role, "assistant", "role of the first delta");
    truth(chunks.at(-1).choices[0].finish_reason, "no finish_reason in the last chunk");
    truth(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "no text");
  },
  "chat: usage in a stream comes last, alone": async () => {
    const chunks = await collect(await chat({ stream: true, stream_options: { include_usage: true } }));
    same(chunks.at(-1).choices, [], "choices of the last chunk");
    truth(chunks.at(-1).usage.completion_tokens > 0, "no usage");
    truth(chunks.slice(0, -1).every((chunk) => chunk.usage === null), "usage is not null before the last chunk");
  },
  "chat: the SDK's accumulator": async () => {
    const runner = sdk.chat.completions.stream({ model, messages, max_tokens: 16 });
    let text = "";
    runner.on("content", (delta) => (text += delta));
    same(await runner.finalContent(), text, "text");
  },
  "chat: n answers": async () => {
    const answer = await chat({ n: 3, temperature: 1 });
    same(answer.choices.map((choice) => choice.index).sort(), [0, 1, 2], "indexes");
  },
  "chat: logprobs and top_logprobs": async () => {
    const answer = await chat({ logprobs: true, top_logprobs: 3 });
    truth(answer.choices[0].logprobs.content.every((one) => one.top_logprobs.length === 3), "not three alternatives");
  },
  "chat: the same seed, the same answer": async () => {
    const said = [await chat({ seed: 7, temperature: 1 }), await chat({ seed: 7, temperature: 1 })];
    same(said[0].choices[0].message.content, said[1].choices[0].message.content, "text");
  },
  "completions: text and a stream": async () => {
    const asked = { model, prompt: "The sky is", max_tokens: 6, temperature: 0 };
    const whole = await sdk.completions.create(asked);
    const pieces = await collect(await sdk.completions.create({ ...asked, stream: true }));
    same(pieces.map((piece) => piece.choices[0]?.text ?? "").join(""), whole.choices[0].text, "text");
  },
  "tools: required": async () => {
    const answer = await chat({ ...forced, messages: question, tools: [weather], max_tokens: 400 });
    const calls = answer.choices[0].message.tool_calls ?? [];
    truth(calls.length, "no call");
    isWeather(calls[0].function.arguments);
    same(answer.choices[0].finish_reason, "tool_calls", "finish_reason");
  },
  "tools: a loop that calls and answers (runTools)": async () => {
    const called = [];
    const tool = {
      type: "function",
      function: { name: "get_weather", parameters, parse: JSON.parse, function: (given) => (called.push(given), "21") },
    };
    const tool_choice = { type: "function", function: { name: "get_weather" } };
    const asked = { ...forced, model, messages: question, tools: [tool], tool_choice, max_tokens: 400 };
    const runner = sdk.chat.completions.runTools(asked, { maxChatCompletions: 1 });
    await runner.done();
    same(called.length, 1, "calls of the function");
    same(runner.messages.at(-1).role, "tool", "last message");
  },
  "tools: a call in a stream": async () => {
    const asked = { ...forced, model, messages: question, tools: [weather], max_tokens: 400 };
    const runner = sdk.chat.completions.stream(asked);
    const final = await runner.finalChatCompletion();
    truth(final.choices[0].message.tool_calls?.length === 1, "the accumulator has no call");
    isWeather(final.choices[0].message.tool_calls[0].function.arguments);
  },
  "schema: an answer of a strict schema": async () => {
    const json_schema = { name: "weather", schema: parameters, strict: true };
    const answer = await chat({ response_format: { type: "json_schema", json_schema }, max_tokens: 200 });
    isWeather(answer.choices[0].message.content);
  },
  "responses: an answer with its items and usage": async () => {
    const answer = await respond({});
    truth(answer.output_text, "no text");
    truth(answer.usage.input_tokens > 0, "no usage");
  },
  "responses: a stream in OpenAI's order": async () => {
    const events = await collect(await respond({ stream: true }));
    same(events.map((event) => event.sequence_number), events.map((_, at) => at), "sequence_number");
    same(events[0].type, "response.created", "first event");
    truth(/^response\.(completed|incomplete)$/.test(events.at(-1).type), `last event: ${events.at(-1).type}`);
  },
  "responses: the SDK's accumulator": async () => {
    const runner = sdk.responses.stream({ model, input: "Say hello.", max_output_tokens: 300 });
    let text = "";
    for await (const event of runner) if (event.type === "response.output_text.delta") text += event.delta;
    truth(text, "no deltas");
    same((await runner.finalResponse()).output_text, text, "text");
  },
  "responses: a forced call, its result sent back": async () => {
    const asked = { ...forced, input: question, tools: [flatWeather], max_output_tokens: 400 };
    const answer = await respond(asked);
    const call = answer.output.find((item) => item.type === "function_call");
    truth(call, "no call");
    isWeather(call.arguments);
    const result = { type: "function_call_output", call_id: call.call_id, output: "21" };
    const after = await respond({ input: [...question, call, result], tools: [flatWeather], tool_choice: "none" });
    truth(after.output_text, "no text after the result");
  },
  "responses: previous_response_id, retrieve, delete, then 404": async () => {
    const first = await respond({ store: true });
    const second = await respond({ previous_response_id: first.id, input: "Again." });
    truth(second.usage.input_tokens > first.usage.input_tokens, "the first turn is not in the prompt");
    same((await sdk.responses.retrieve(first.id)).output_text, first.output_text, "text");
    await sdk.responses.delete(first.id);
    await refused(() => sdk.responses.retrieve(first.id), OpenAI.NotFoundError);
  },
  "responses: in the background, cancelled": async () => {
    const made = await respond({ background: true, store: true, input: "Count to 1000.", max_output_tokens: 6000 });
    truth(["queued", "in_progress"].includes(made.status), `status: ${made.status}`);
    same((await sdk.responses.cancel(made.id)).status, "cancelled", "status");
  },
  "embeddings: a batch in base64, the SDK's default": async () => {
    const answer = await embedder.embeddings.create({ model, input: ["the sea", "a cat", "the sea"] });
    const [first, second, third] = answer.data.map((one) => one.embedding);
    truth(cosine(first, third) > 0.999, "the same text differs");
    truth(cosine(first, second) < 0.999, "another text does not");
  },
  "models: the list, one, and the one that is not there": async () => {
    const listed = await collect(sdk.models.list());
    truth(listed.some((one) => one.id === model), "not in the list");
    same((await sdk.models.retrieve(model)).id, model, "id");
    const missing = await refused(() => sdk.models.retrieve("no-such-model"), OpenAI.NotFoundError);
    same(missing.code, "model_not_found", "code");
  },
  "errors: 400 names the field, too long has its code": async () => {
    const bad = await refused(() => chat({ temperature: -3 }), OpenAI.BadRequestError);
    same([bad.param, bad.type], ["temperature", "invalid_request_error"], "error");
    const long = [{ role: "user", content: "word ".repeat(9000) }];
    const full = await refused(() => chat({ messages: long, stream: true }), OpenAI.BadRequestError);
    same(full.code, "context_length_exceeded", "code");
  },
  "errors: 401 where a key is asked for, and only there": async () => {
    if (!target.guarded) throw new Skipped("no server with a key");
    const asked = { model, messages, max_tokens: 1 };
    const wrong = client(target.guarded, "wrong").chat.completions;
    await refused(() => wrong.create(asked), OpenAI.AuthenticationError);
    truth((await client(target.guarded, target.key).chat.completions.create(asked)).choices, "no answer with the key");
  },
  "cancel: breaking off streams frees their slots": async () => {
    for (let at = 0; at < 6; at++) {
      const stream = await chat({ stream: true, max_tokens: 6000, ignore_eos: true });
      for await (const _ of stream) break;
    }
    await client(target.api, "unused").chat.completions.create({ model, messages, max_tokens: 1 }, { timeout: 10_000 });
  },
};

await run(checks, process.argv.slice(2));

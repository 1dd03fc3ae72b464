// What the official `@anthropic-ai/sdk` package must be given.

import Anthropic from "@anthropic-ai/sdk";

import { Skipped, collect, refused, run, same, target, truth } from "./checklist.mjs";

const model = target.model;
const messages = [{ role: "user", content: "Say hello." }];
const question = [{ role: "user", content: "What is the weather in Paris?" }];
const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 }, unit: { enum: ["celsius", "fahrenheit"] } },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};

function client(url, key, maxRetries = 0) {
  return new Anthropic({ baseURL: url, apiKey: key, maxRetries, timeout: 90_000 });
}

const sdk = client(target.api, "unused");

function ask(asked) {
  return sdk.messages.create({ model, messages, max_tokens: 16, ...asked });
}

function words(message) {
  return message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
}

const checks = {
  "messages: an answer with its usage": async () => {
    const answer = await ask({ system: "Be brief." });
    truth(words(answer), "no text");
    same([answer.type, answer.role], ["message", "assistant"], "frame");
    truth(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0, "no usage");
    truth(answer._request_id, "no request id");
  },
  "messages: a stream in Anthropic's order": async () => {
    const kinds = (await collect(await ask({ stream: true }))).map((event) => event.type);
    same(kinds.slice(0, 2), ["message_start", "content_block_start"], "first events");
    same(kinds.slice(-3), ["content_block_stop", "message_delta", "message_stop"], "last events");
  },
  "messages: the SDK's accumulator": async () => {
    const stream = sdk.messages.stream({ model, messages, max_tokens: 16 });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    same(words(await stream.finalMessage()), text, "text");
    truth(text, "no text");
  },
  "messages: max_tokens and stop_sequences say why they ended it": async () => {
    same((await ask({ max_tokens: 1 })).stop_reason, "max_tokens", "stop_reason");
    const cut = await ask({ max_tokens: 60, stop_sequences: ["e", "a", "o", "i", "!"] });
    same(cut.stop_reason, "stop_sequence", "stop_reason");
    truth(["e", "a", "o", "i", "!"].includes(cut.stop_sequence), `stop_sequence: ${cut.stop_sequence}`);
  },
  "messages: a call, its result sent back": async () => {
    const tools = [weather];
    const tool_choice = { type: "tool", name: "get_weather", disable_parallel_tool_use: true };
    const answer = await ask({ messages: question, tools, tool_choice, max_tokens: 400 });
    same(answer.stop_reason, "tool_use", "stop_reason");
    const call = answer.content.find((block) => block.type === "tool_use");
    same(Object.keys(call.input).sort(), ["city", "unit"], "input");
    const result = { type: "tool_result", tool_use_id: call.id, content: "21 degrees" };
    const turns = [...question, { role: "assistant", content: answer.content }, { role: "user", content: [result] }];
    truth(words(await ask({ messages: turns, tools, tool_choice: { type: "none" } })), "no text after the result");
  },
  "messages: a call in a stream": async () => {
    const tool_choice = { type: "any", disable_parallel_tool_use: true };
    const stream = sdk.messages.stream({ model, messages: question, tools: [weather], tool_choice, max_tokens: 400 });
    let pieces = 0;
    stream.on("inputJson", () => (pieces += 1));
    const final = await stream.finalMessage();
    truth(pieces, "no partial JSON");
    truth(final.content.some((block) => block.type === "tool_use"), "the accumulator has no call");
  },
  "messages: count_tokens is the usage of the answer": async () => {
    const counted = await sdk.messages.countTokens({ model, messages, system: "Be brief." });
    const { usage } = await ask({ system: "Be brief.", max_tokens: 1 });
    const cached = (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0);
    same(counted.input_tokens, usage.input_tokens + cached, "input_tokens");
  },
  "messages: thinking and betas are accepted": async () => {
    const asked = { model, messages, max_tokens: 8, thinking: { type: "adaptive" }, output_config: { effort: "low" } };
    const answer = await sdk.beta.messages.create({ ...asked, betas: ["context-management-2025-06-27"] });
    truth(Array.isArray(answer.content), "no content");
  },
  "messages: models in Anthropic's shape": async () => {
    const listed = await collect(sdk.models.list());
    truth(listed.some((one) => one.id === model && one.type === "model"), "not in the list");
    truth((await sdk.models.retrieve(model)).display_name, "no display_name");
    await refused(() => sdk.models.retrieve("no-such-model"), Anthropic.NotFoundError);
  },
  "messages: errors in Anthropic's shape": async () => {
    const bad = await refused(() => ask({ temperature: -3 }), Anthropic.BadRequestError);
    same([bad.error?.type, bad.error?.error?.type], ["error", "invalid_request_error"], "types");
    await refused(() => ask({ model: "nobody" }), Anthropic.NotFoundError);
    const long = [{ role: "user", content: "word ".repeat(9000) }];
    const full = await refused(() => ask({ messages: long, stream: true }), Anthropic.BadRequestError);
    truth(`${full.message}`.includes("prompt is too long"), `message: ${full.message}`);
  },
  "messages: 401 where a key is asked for, by either header": async () => {
    if (!target.guarded) throw new Skipped("no server with a key");
    const asked = { model, messages, max_tokens: 1 };
    await refused(() => client(target.guarded, "wrong").messages.create(asked), Anthropic.AuthenticationError);
    truth((await client(target.guarded, target.key).messages.create(asked)).content, "no answer with the key");
    const bearer = new Anthropic({ baseURL: target.guarded, apiKey: null, authToken: target.key, maxRetries: 0 });
    truth((await bearer.messages.create(asked)).content, "no answer with a bearer token");
  },
  "messages: breaking off streams frees their slots": async () => {
    const endless = [{ role: "user", content: "Count from 1 to 1000, one number a line." }];
    for (let at = 0; at < 6; at++) {
      const stream = await ask({ messages: endless, stream: true, max_tokens: 6000 });
      for await (const _ of stream) break;
    }
    await sdk.messages.create({ model, messages, max_tokens: 1 }, { timeout: 10_000 });
  },
};

await run(checks, process.argv.slice(2));

import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "http://127.0.0.1:9337", apiKey: "none needed here" });
const message = await client.messages.create({
  model: "smollm2-135m-instruct",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 40,
});
console.log(message.content[0].text);

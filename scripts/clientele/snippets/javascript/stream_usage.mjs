import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:9337/v1", apiKey: "none needed here" });
const stream = await client.chat.completions.create({
  model: "smollm2-135m-instruct",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 40,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  if (chunk.usage) console.log(`\n${chunk.usage.prompt_tokens} tokens in, ${chunk.usage.completion_tokens} out`);
}

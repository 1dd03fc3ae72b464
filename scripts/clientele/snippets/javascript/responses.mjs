import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:9337/v1", apiKey: "none needed here" });
const stream = await client.responses.create({
  model: "smollm2-135m-instruct",
  input: "What is the capital of France?",
  max_output_tokens: 40,
  stream: true,
});
for await (const event of stream) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
}
console.log();

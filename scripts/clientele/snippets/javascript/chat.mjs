import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:9337/v1", apiKey: "none needed here" });
const answer = await client.chat.completions.create({
  model: "smollm2-135m-instruct",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 40,
});
console.log(answer.choices[0].message.content);

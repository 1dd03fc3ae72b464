import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:9337/v1", apiKey: "none needed here" });
const answer = await client.embeddings.create({
  model: "smollm2-135m-instruct",
  input: ["The sea is wide.", "A cat sleeps."],
});
for (const each of answer.data) console.log(each.index, each.embedding.length);

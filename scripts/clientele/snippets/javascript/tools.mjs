import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:9337/v1", apiKey: "none needed here" });
const model = "smollm2-135m-instruct";
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "London", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const messages = [{ role: "user", content: "What is the weather in Paris?" }];

const tool_choice = { type: "function", function: { name: "get_weather" } };
const asked = await client.chat.completions.create({ model, messages, tools, tool_choice, parallel_tool_calls: false });
const call = asked.choices[0].message.tool_calls[0];
const { city } = JSON.parse(call.function.arguments);
console.log("called with", city);

messages.push(asked.choices[0].message, { role: "tool", tool_call_id: call.id, content: `21 degrees in ${city}` });
const answer = await client.chat.completions.create({ model, messages, tools, tool_choice: "none", max_tokens: 40 });
console.log(answer.choices[0].message.content);

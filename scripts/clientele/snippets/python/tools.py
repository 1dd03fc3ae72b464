"""A function that the model asks for, its result sent back."""

import json

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:9337/v1", api_key="none needed here")
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Paris", "London", "Rome"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
asked = client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=messages,
    tools=tools,
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
    parallel_tool_calls=False,
    temperature=0,
)
call = asked.choices[0].message.tool_calls[0]
city = json.loads(call.function.arguments)["city"]
print("called with", city)

messages += [asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": f"21 degrees in {city}"}]
answer = client.chat.completions.create(
    model="smollm2-135m-instruct", messages=messages, tools=tools, tool_choice="none", max_tokens=40
)
print(answer.choices[0].message.content)

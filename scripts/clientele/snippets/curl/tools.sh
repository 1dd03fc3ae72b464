# The model asked for get_weather earlier; this sends the result back.
curl -sS http://127.0.0.1:9337/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "smollm2-135m-instruct",
  "messages": [
    {"role": "user", "content": "What is the weather in Paris?"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}
    ]},
    {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees, sunny"}
  ],
  "tools": [{"type": "function", "function": {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
  }}],
  "tool_choice": "none",
  "max_tokens": 40
}'

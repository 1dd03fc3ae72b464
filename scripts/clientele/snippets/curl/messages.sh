curl -sS http://127.0.0.1:9337/v1/messages -H 'Content-Type: application/json' -H 'anthropic-version: 2023-06-01' -d '{
  "model": "smollm2-135m-instruct",
  "messages": [{"role": "user", "content": "What is the capital of France?"}],
  "max_tokens": 40
}'

curl -sSN http://127.0.0.1:9337/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "smollm2-135m-instruct",
  "messages": [{"role": "user", "content": "What is the capital of France?"}],
  "max_tokens": 40,
  "stream": true,
  "stream_options": {"include_usage": true}
}'

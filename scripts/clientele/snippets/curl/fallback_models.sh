curl -sS http://127.0.0.1:9337/v1/chat/completions -H 'Content-Type: application/json' -d '{
  "model": "a-model-that-nobody-serves",
  "fallback_models": ["smollm2-135m-instruct"],
  "messages": [{"role": "user", "content": "Say hello."}],
  "max_tokens": 20
}'

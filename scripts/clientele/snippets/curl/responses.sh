curl -sS http://127.0.0.1:9337/v1/responses -H 'Content-Type: application/json' -d '{
  "model": "smollm2-135m-instruct",
  "input": "What is the capital of France?",
  "max_output_tokens": 40
}'

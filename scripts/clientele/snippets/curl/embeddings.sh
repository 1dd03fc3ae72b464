curl -sS http://127.0.0.1:9337/v1/embeddings -H 'Content-Type: application/json' -d '{
  "model": "smollm2-135m-instruct",
  "input": ["The sea is wide.", "A cat sleeps."]
}'

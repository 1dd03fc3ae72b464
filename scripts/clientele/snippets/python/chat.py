"""One question, one answer."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:9337/v1", api_key="none needed here")
answer = client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    max_tokens=40,
)
print(answer.choices[0].message.content)

"""Another model where the first is not to be had."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:9337/v1", api_key="none needed here")
answer = client.chat.completions.create(
    model="a-model-that-nobody-serves",
    messages=[{"role": "user", "content": "Say hello."}],
    max_tokens=20,
    extra_body={"fallback_models": ["smollm2-135m-instruct"]},
)
print(answer.model, "says:", answer.choices[0].message.content)

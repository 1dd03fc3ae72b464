"""Anthropic's SDK, streaming."""

from anthropic import Anthropic

client = Anthropic(base_url="http://127.0.0.1:9337", api_key="none needed here")
with client.messages.stream(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    max_tokens=40,
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print(f"\n{stream.get_final_message().usage.output_tokens} tokens out")

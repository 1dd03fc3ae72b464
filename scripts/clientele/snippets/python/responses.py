"""A conversation that the node remembers."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:9337/v1", api_key="none needed here")
first = client.responses.create(model="smollm2-135m-instruct", input="My name is Ada.", max_output_tokens=30)
print(first.output_text)
second = client.responses.create(
    model="smollm2-135m-instruct", input="What is my name?", previous_response_id=first.id, max_output_tokens=30
)
print(second.output_text)

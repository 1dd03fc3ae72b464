"""Two texts as vectors."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:9337/v1", api_key="none needed here")
answer = client.embeddings.create(model="smollm2-135m-instruct", input=["The sea is wide.", "A cat sleeps."])
for each in answer.data:
    print(each.index, len(each.embedding), each.embedding[:3])

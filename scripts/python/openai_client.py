"""The official OpenAI client, unmodified, against a realm: chat, stream, embeddings, models, errors.

Usage: openai_client.py BASE_URL API_KEY. Prints "ok" or fails with what was wrong.
"""

import sys

import openai

base, key = sys.argv[1:3]
client = openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=120)

models = sorted(model.id for model in client.models.list())
assert models == ["all-minilm-l6-v2", "smollm2-135m-instruct"], models
assert client.models.retrieve(models[1]).id == models[1]
# What the realm itself serves is told in words; the client keeps fields that it does not know.
assert client.models.retrieve(models[1]).model_dump()["about"]["title"] == "SmolLM2 135M Instruct"

question = [{"role": "user", "content": "Write one sentence about the sea."}]
whole = client.chat.completions.create(
    model="smollm2-135m-instruct", messages=question, max_tokens=16, seed=7, user="somebody"
)
assert whole.choices[0].message.role == "assistant", whole
assert whole.choices[0].message.content.strip(), whole
assert 0 < whole.usage.completion_tokens <= 16, whole.usage

pieces = list(
    client.chat.completions.create(
        model="smollm2-135m-instruct",
        messages=question,
        max_tokens=16,
        seed=7,
        stream=True,
        stream_options={"include_usage": True},
    )
)
text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
assert text == whole.choices[0].message.content, (text, whole)
assert len([piece for piece in pieces if piece.choices]) >= 3, pieces
assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens, pieces[-1]

several = client.chat.completions.create(
    model="smollm2-135m-instruct", messages=question, max_tokens=8, n=2
)
assert [choice.index for choice in several.choices] == [0, 1], several

vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a cat", "a kitten", "tax law"])
cat, kitten, law = (item.embedding for item in vectors.data)
dot = lambda one, two: sum(a * b for a, b in zip(one, two))
assert abs(dot(cat, cat) - 1) < 1e-3, dot(cat, cat)
assert dot(cat, kitten) > dot(cat, law), (dot(cat, kitten), dot(cat, law))

for call, status, code in [
    (lambda: client.chat.completions.create(model="gpt-x", messages=question), 404, "MT0007"),
    (
        lambda: openai.OpenAI(base_url=base + "/v1", api_key="wrong", max_retries=0).models.list(),
        401,
        "MT0008",
    ),
]:
    try:
        call()
    except openai.APIStatusError as error:
        assert (error.status_code, error.code) == (status, code), (error.status_code, error.code)
    else:
        raise AssertionError(f"{code} expected")
print("ok")

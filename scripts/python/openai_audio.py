"""The official OpenAI client, unmodified, against a realm's audio routes.

Usage: openai_audio.py BASE_URL API_KEY SOUND. Prints "ok" or fails with what was wrong. What the
worker answers stands in crates/cli/tests/audio.rs.
"""

import pathlib
import sys
import tempfile

import openai

base, key, path = sys.argv[1:4]
client = openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=60)
SAID = "The worst is over. It is quiet."


def hear(**more):
    with open(path, "rb") as sound:
        return client.audio.transcriptions.create(**{"model": "auto", "file": sound} | more)


def say(**more):
    return {"model": "auto", "voice": "alloy", "input": "Hello. World."} | more


assert hear(language="en", temperature=0).text == SAID
assert hear(response_format="text") == SAID + "\n"
assert hear(response_format="srt").startswith("1\n00:00:00,180 --> 00:00:01,900\nThe worst")
assert hear(response_format="vtt").startswith("WEBVTT\n\n00:00:00.180 --> ")
verbose = hear(response_format="verbose_json", timestamp_granularities=["segment"])
assert [segment.start for segment in verbose.segments] == [0.18, 4.0], verbose
assert verbose.segments[0].no_speech_prob is None, verbose

with open(path, "rb") as sound:
    events = list(client.audio.transcriptions.create(model="auto", file=sound, stream=True))
deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
assert (len(deltas), "".join(deltas), events[-1].text) == (2, SAID, SAID), events

whole = client.audio.speech.create(**say()).read()
assert (whole[:4], len(whole)) == (b"RIFF", 48_044 + 4_800), len(whole)
speech = client.audio.speech.with_streaming_response
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "speech.wav"
    with speech.create(**say(response_format="wav", speed=1.0)) as answer:
        assert answer.headers["content-type"] == "audio/wav", answer.headers
        answer.stream_to_file(file)
    assert file.read_bytes() == whole
with speech.create(**say(stream_format="sse")) as answer:
    lines = [line for line in answer.iter_lines() if line]
assert '"type":"speech.audio.done"' in lines[-1], lines[-1][:200]

for call, status, code, param in [
    (lambda: hear(language="fr"), 400, "MT0029", "language"),
    (lambda: hear(prompt="names"), 400, "MT0002", "prompt"),
    (lambda: hear(timestamp_granularities=["word"]), 400, "MT0002", "timestamp_granularities[]"),
    (lambda: hear(model="whisper-1"), 404, "MT0007", "model"),
    (lambda: client.audio.speech.create(**say(input="early")), 400, "MT0029", "voice"),
    (lambda: client.audio.speech.create(**say(input="x" * 5000)), 400, "MT0002", "input"),
    (lambda: client.audio.speech.create(**say(response_format="midi")), 400, "MT0002", "response_format"),
]:
    try:
        call()
    except openai.APIStatusError as error:
        found = (error.status_code, error.code, error.param)
        assert found == (status, code, param), found
    else:
        raise AssertionError(f"{code} expected")

# What fails in the middle is never taken for the whole.
try:
    with open(path, "rb") as sound:
        list(client.audio.transcriptions.create(model="auto", file=sound, language="late", stream=True))
except openai.APIError as error:
    assert error.code == "MT0025", error
else:
    raise AssertionError("a part was taken for the whole")
try:
    client.audio.speech.create(**say(input="late"))
except Exception:
    pass
else:
    raise AssertionError("a part was taken for the whole")
print("ok")

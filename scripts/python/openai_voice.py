"""The official OpenAI client, unmodified: what a realm's real model says, its other one understands.

Usage: openai_voice.py BASE_URL API_KEY. Prints "ok" or fails with what was wrong.
"""

import pathlib
import sys
import tempfile

import openai

base, key = sys.argv[1:3]
client = openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=300)
speech = client.audio.speech.with_streaming_response
TEXT = "The harbor is quiet today. The winter was the worst of all."
WORDS = ["harbor", "quiet", "winter", "worst"]

with tempfile.TemporaryDirectory() as folder:
    for name, voice, begins in [("wav", "alloy", b"RIFF"), ("opus", "bm_fable", b"OggS")]:
        file = pathlib.Path(folder) / f"speech.{name.replace('opus', 'ogg')}"
        with speech.create(
            model="kokoro-82m", voice=voice, input=TEXT, response_format=name, speed=1.0
        ) as answer:
            answer.stream_to_file(file)
        assert file.read_bytes()[:4] == begins, name
        with open(file, "rb") as sound:
            heard = client.audio.transcriptions.create(
                model="moonshine-tiny-en", file=sound, response_format="verbose_json"
            )
        said = heard.text.lower().replace("harbour", "harbor")
        missing = [word for word in WORDS if word not in said]
        assert len(missing) <= 1, (name, heard.text)
        assert 2 < heard.duration < 12 and len(heard.segments) >= 1, heard

for more in [{"voice": "nobody"}, {"response_format": "mp3"}, {"speed": 9.0}, {"instructions": "Sing."}]:
    try:
        client.audio.speech.create(**{"model": "auto", "voice": "alloy", "input": "Hello."} | more)
    except openai.APIStatusError as error:
        assert error.status_code == 400 and error.code in ("MT0002", "MT0029"), error
        assert list(more)[0] in error.message, error
    else:
        raise AssertionError(f"{more} was taken")
print("ok")

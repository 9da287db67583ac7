#!/usr/bin/env python3
"""How well and how fast a realm hears and speaks.

  bench/voice/figures.py --realm http://127.0.0.1:9000 [--clip FILE.wav --said "its words"]

Each sentence of sentences.toml is spoken by one of its voices and heard again, as it is and under
white noise at 10 dB; with --clip a recording of a person, too, whose words are in a file or given.
Then each question is spoken, heard, answered by the realm's chat model and the answer's first
sentence spoken, as a visitor of the page would have it. Memory is that of the program that hears and
speaks, where it runs on this machine. Python's standard library alone (3.11 or newer).
"""

import argparse
import json
import statistics
import sys
import time
import tomllib
import uuid
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "models"))

from client import Refused, Server, machine  # noqa: E402
from sound import errors, pcm, read_wav, wav, with_noise  # noqa: E402

SENTENCES = tomllib.loads((HERE / "sentences.toml").read_text())
RATE = 24_000
NOISE_DB = 10


class Voice(Server):
    """The audio routes, with the times that they take."""

    def speak(self, text, voice):
        """Samples, seconds to the first byte, seconds in all."""
        began = time.perf_counter()
        body = {"input": text, "voice": voice, "response_format": "pcm", "model": "auto"}
        line, reply = self._send("POST", "/v1/audio/speech", body)
        if reply.status != 200:
            raise Refused(f"{reply.status} {reply.read().decode('utf-8', 'replace')[:300]}")
        data = reply.read(1)
        first = time.perf_counter() - began
        data += reply.read()
        line.close()
        return pcm(data), first, time.perf_counter() - began

    def hear(self, samples, rate):
        """The text and the seconds that it took."""
        mark = uuid.uuid4().hex
        fields = {"model": "auto", "response_format": "json", "language": "en"}
        parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                 for name, value in fields.items()]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="s.wav"\r\n\r\n'
        body = b"".join([*parts, head.encode(), wav(samples, rate), f"\r\n--{mark}--\r\n".encode()])
        began = time.perf_counter()
        line, reply = self._form("/v1/audio/transcriptions", body, mark)
        text = reply.read().decode("utf-8", "replace")
        line.close()
        if reply.status != 200:
            raise Refused(f"{reply.status} {text[:300]}")
        return json.loads(text)["text"], time.perf_counter() - began

    def _form(self, path, body, mark):
        import http.client
        line = http.client.HTTPConnection(self.parts.hostname, self.parts.port, timeout=600)
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        line.request("POST", self.root + path, body, headers)
        return line, line.getresponse()


class Row:
    """Words and errors, seconds of sound and of work, of one kind of recording."""

    def __init__(self, name):
        self.name, self.wrong, self.said, self.sound, self.spent = name, 0, 0, 0.0, 0.0
        self.misheard = []

    def take(self, said, heard, sound, spent):
        wrong, count = errors(said, heard)
        self.wrong, self.said = self.wrong + wrong, self.said + count
        self.sound, self.spent = self.sound + sound, self.spent + spent
        if wrong:
            self.misheard.append((said, heard))

    @property
    def rate(self):
        return self.wrong / self.said if self.said else 0.0


def sentences(server, voices):
    clean, noisy, spoken = Row("spoken, as it is"), Row(f"spoken, noise at {NOISE_DB} dB"), []
    for at, text in enumerate(SENTENCES["sentences"]):
        voice = voices[at % len(voices)]
        samples, first, whole = server.speak(text, voice)
        seconds = len(samples) / RATE
        spoken.append((seconds, first, whole))
        for row, heard in ((clean, samples), (noisy, with_noise(samples, NOISE_DB, at))):
            row.take(text, *reversed_pair(server.hear(heard, RATE), seconds))
        print(f"{at + 1} of {len(SENTENCES['sentences'])}: {voice}", file=sys.stderr, flush=True)
    return [clean, noisy], spoken


def reversed_pair(heard, seconds):
    text, spent = heard
    return text, seconds, spent


def clip(server, path, said):
    samples, rate = read_wav(str(path))
    rows = [Row("a person, as it is"), Row(f"a person, noise at {NOISE_DB} dB")]
    for row, heard in zip(rows, (samples, with_noise(samples, NOISE_DB, 0))):
        row.take(said, *reversed_pair(server.hear(heard, rate), len(samples) / rate))
    return rows


def answers(server, voices):
    """Seconds from the end of a spoken question: to its text, to the answer's first word, to its first
    sound. What is heard is asked, and the first sentence is spoken as soon as it is whole."""
    times = []
    for at, question in enumerate(SENTENCES["questions"]):
        samples, _, _ = server.speak(question, voices[at % len(voices)])
        text, heard = server.hear(samples, RATE)
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 120}
        sentence, word, whole = first_sentence(server, body)
        _, sound, _ = server.speak(sentence, voices[0])
        times.append((heard, heard + word, heard + whole + sound))
        print(f"{question} -> {text} -> {sentence}", file=sys.stderr, flush=True)
    return times


def first_sentence(server, body):
    """It, and the seconds to its first word and to its end."""
    began = time.perf_counter()
    line, reply = server._send("POST", "/v1/chat/completions", {**body, "stream": True})
    if reply.status != 200:
        raise Refused(f"{reply.status} {reply.read().decode('utf-8', 'replace')[:300]}")
    text, word = "", None
    for row in reply:
        if not row.startswith(b"data:") or row[5:].strip() == b"[DONE]":
            continue
        for choice in json.loads(row[5:]).get("choices") or []:
            text += (choice.get("delta") or {}).get("content") or ""
        if text and word is None:
            word = time.perf_counter() - began
        ends = [text.find(mark) for mark in (". ", "! ", "? ", "\n") if text.find(mark) > 0]
        if ends:
            text = text[: min(ends) + 1]
            break
    whole = time.perf_counter() - began
    line.close()
    return text, word if word is not None else whole, whole


def memory():
    """MiB that the program which speaks has now, and has had at most; nothing where it is elsewhere."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            line = status.with_name("cmdline").read_bytes().split(b"\0")
            fields = dict(row.split(":", 1) for row in status.read_text().splitlines() if ":" in row)
        except OSError:
            continue
        if line[0].endswith(b"mtor-models") and b"speak" in line:
            return [int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")]
    return None


def report(rows, spoken, times, before):
    median = statistics.median
    lines = ["# How a realm hears and speaks", "", f"Taken by `bench/voice/figures.py`. {before}.", "",
             "| recordings | words | wrong | word error rate | seconds of sound | times real time |",
             "|---|---|---|---|---|---|"]
    lines += [f"| {row.name} | {row.said} | {row.wrong} | {row.rate:.1%} | {row.sound:.0f} | "
              f"{row.sound / row.spent:.1f} |" for row in rows]
    sound, spent = sum(one[0] for one in spoken), sum(one[2] for one in spoken)
    lines += ["", f"Speaking: {sound:.0f} s of sound in {spent:.0f} s, {sound / spent:.2f} times real time; the "
              f"first byte of a sentence after {median(one[1] for one in spoken):.2f} s (median), "
              f"{max(one[1] for one in spoken):.2f} s at most."]
    if times:
        heard, word, first = (median(one[at] for one in times) for at in range(3))
        lines += ["", f"From the end of a spoken question (medians of {len(times)}): its text after {heard:.2f} s, "
                  f"the answer's first word after {word:.2f} s, its first sound after {first:.2f} s."]
    held = memory()
    if held:
        lines += ["", f"Memory of the program that hears and speaks: {held[0]} MiB, at most {held[1]} MiB."]
    wrong = [(row.name, said, heard) for row in rows for said, heard in row.misheard if len(said) < 200]
    if wrong:
        lines += ["", "What was misheard:", "", "| recording | said | heard |", "|---|---|---|"]
        lines += [f"| {name} | {said} | {heard.replace('|', '/')} |" for name, said, heard in wrong]
    return "\n".join(lines) + "\n"


def main():
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--realm", required=True, metavar="URL")
    reader.add_argument("--clip", type=Path, metavar="FILE", help="a WAV file of a person, 16 bits")
    reader.add_argument("--said", default="", metavar="TEXT", help="what that person says, or @FILE")
    reader.add_argument("--no-chat", action="store_true", help="ask no questions")
    reader.add_argument("--to", type=Path, metavar="FILE", help="where the result goes, as well")
    options = reader.parse_args()
    before = machine()
    guest = Server(options.realm).call("POST", "/v1/accounts/guest", {})
    server, voices = Voice(options.realm, guest["api_key"]), SENTENCES["voices"]
    rows, spoken = sentences(server, voices)
    if options.clip:
        said = options.said
        rows += clip(server, options.clip, Path(said[1:]).read_text() if said.startswith("@") else said)
    times = [] if options.no_chat else answers(server, voices)
    text = report(rows, spoken, times, before)
    print(text, end="")
    if options.to:
        options.to.write_text(text)


if __name__ == "__main__":
    main()

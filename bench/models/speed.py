#!/usr/bin/env python3
"""How quick engines of one model are, side by side: first token, tokens a second, four streams at
once, memory, start.

  bench/models/speed.py --gguf FILE --engine PATH            the kept server, as a worker starts it
  bench/models/speed.py --gguf FILE --engine PATH --server other=http://127.0.0.1:8080[,MODEL]
  bench/models/speed.py --server one=URL --server two=URL    any OpenAI-compatible servers

All are up at once, and each question goes to one after the other, so that what else the machine has
to do falls on all; which is first changes with every round. Prompts are the same for all and new each
time, unless it is the cache that is measured. Medians are shown, and the ratio to the first engine.
Whoever is given by its address should have as many threads and slots, and the same model file.
"""

import argparse
import json
import os
import random
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from client import Refused, Server, machine, sha256

LAUNCHER = Path(__file__).parents[2] / "crates/worker/src/executors/engine/launch.py"
STORY = "Write a long story about a lighthouse keeper who finds a map. Do not stop early."
# Some 700 tokens that no cache knows, because of the number that stands before them.
LONG = "The harbour master wrote down each ship, its cargo, its captain and the hour. " * 40
MIB = 1024 * 1024


class Kept:
    """llama.cpp's server in a child, by the launcher and with the settings that a worker uses."""

    def __init__(self, name, file, engine, options):
        self.name, self.file, self.engine, self.options = name, file, engine, options

    def settings(self, key):
        size = os.path.getsize(self.file)
        return {
            "engine": str(Path(self.engine).absolute()), "file": str(Path(self.file).absolute()),
            "name": "model", "key": key, "slots": self.options.slots, "context": self.options.context,
            "threads": self.options.threads, "cache_mib": 128,
            # As executors/engine.rs bounds it.
            "memory": size + size // 2 + (640 + 1024) * MIB,
        }

    def start(self):
        began, key = perf_counter(), secrets.token_hex(32)
        self.words = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            [sys.executable, "-I", "-c", LAUNCHER.read_text()], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.words, env={**os.environ, "MALLOC_ARENA_MAX": "2"})
        self.child.stdin.write(json.dumps(self.settings(key)).encode() + b"\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            self.words.seek(0)
            raise SystemExit(f"{self.name} did not start:\n{self.words.read().decode()[-2000:]}")
        self.server, self.model = Server(json.loads(line)["address"], key), "model"
        return perf_counter() - began

    def ask(self, body):
        return self.server.ask({"model": self.model, **body})

    def pid(self):
        return self.child.pid

    def stop(self):
        self.child.stdin.close()
        self.child.wait()


class Running:
    """A server that somebody else started: neither its start nor its memory is known."""

    def __init__(self, name, url, model=None):
        self.name, self.server = name, Server(url, os.environ.get("BENCH_API_KEY"))
        self.model = model

    def start(self):
        self.model = self.model or self.server.models()[0]
        return None

    def ask(self, body):
        return self.server.ask({"model": self.model, **body})

    def pid(self):
        return None

    def stop(self):
        pass


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status")
    if pid is None or not status.exists():
        return None
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text()).group(1)) / 1024


def cpu_seconds(pid):
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return None
    fields = stat.read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def body(nonce, question, tokens, **more):
    """The number stands first, so that nothing after it is in a cache. A system message is given
    so that no template adds one of its own."""
    messages = [{"role": "system", "content": f"{nonce}."}, {"role": "user", "content": question}]
    return {"messages": messages, "max_tokens": tokens, **more}


class Samples:
    """What was measured: by the name of the figure, then by engine. What an engine will not do is
    kept as such."""

    def __init__(self):
        self.rows, self.refusals = {}, set()

    def refused(self, row, engine):
        self.rows.setdefault(row, {})
        self.refusals.add((row, engine.name))

    def add(self, row, engine, value):
        if value is not None:
            self.rows.setdefault(row, {}).setdefault(engine.name, []).append(value)


def first_tokens(engine, nonce, into):
    for words, question in (("short", STORY), ("long", LONG + "Summarise this.")):
        asked = body(nonce, question, 2, temperature=0)
        answer = engine.ask(asked)
        into.add(f"{words} prompt, tokens", engine, answer.prompt_tokens)
        into.add(f"{words} prompt, first token, ms", engine, 1000 * answer.first)
        into.add(f"{words} prompt again, first token, ms", engine, 1000 * engine.ask(asked).first)


def one_stream(engine, nonce, tokens, into):
    for words, more in (("likeliest token", {"temperature": 0}), ("the engine's defaults", {})):
        before = cpu_seconds(engine.pid())
        answer = engine.ask(body(nonce, STORY, tokens, **more))
        after = cpu_seconds(engine.pid())
        into.add(f"one stream, {words}, tokens/s", engine, answer.rate)
        if before is not None:
            spent = 1000 * (after - before) / max(answer.tokens, 1)
            into.add(f"one stream, {words}, CPU ms a token", engine, spent)
        into.add(f"one stream, {words}, tokens", engine, answer.tokens)


def streams_at_once(engine, nonce, tokens, count, into):
    ready = threading.Barrier(count)

    def ask(number):
        ready.wait()
        return engine.ask(body(nonce + number, STORY, tokens, temperature=0))

    began, before = perf_counter(), cpu_seconds(engine.pid())
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(ask, range(count)))
    spent, after = perf_counter() - began, cpu_seconds(engine.pid())
    made = sum(answer.tokens for answer in answers)
    firsts = sorted(1000 * answer.first for answer in answers)
    into.add(f"{count} at once, tokens/s of all", engine, made / spent)
    into.add(f"{count} at once, first token, median, ms", engine, statistics.median(firsts))
    into.add(f"{count} at once, first token, last, ms", engine, firsts[-1])
    if before is not None:
        into.add(f"{count} at once, CPU ms a token", engine, 1000 * (after - before) / max(made, 1))


SCHEMA = {"type": "json_schema", "json_schema": {"name": "places", "schema": {
    "type": "object", "required": ["places"], "additionalProperties": False,
    "properties": {"places": {"type": "array", "items": {"type": "string"}, "minItems": 12}}}}}
WISHES = {
    "JSON schema": {"response_format": SCHEMA},
    "5 log probabilities a token": {"logprobs": True, "top_logprobs": 5},
    "two answers (n)": {"n": 2},
}


def wishes(engine, nonce, tokens, into):
    """What an OpenAI client may ask for beside text, as time a token (of one answer, with n)."""
    for words, more in WISHES.items():
        row = f"{words}, ms a token"
        try:
            answer = engine.ask(body(nonce, STORY, tokens, temperature=0, **more))
            # Not all count the tokens of each choice; each has as many at the most.
            into.add(row, engine, 1000 / answer.rate if answer.rate else None)
        except Refused:
            into.refused(row, engine)


def a_round(engines, options, into):
    """Starts all, asks each question of all, ends all."""
    began = []
    try:
        for engine in engines:
            seconds = engine.start()
            began.append(engine)
            into.add("start to ready, s", engine, seconds)
        for engine in engines:
            engine.ask(body(1, "Hello.", 4))
        steps = (
            first_tokens,
            lambda engine, nonce, into: one_stream(engine, nonce, options.tokens, into),
            lambda engine, nonce, into:
                streams_at_once(engine, nonce, options.tokens, options.streams, into),
            lambda engine, nonce, into: wishes(engine, nonce, options.tokens, into),
        )
        for step in steps:
            for _ in range(options.asks):
                # Six digits, and room for a stream's number: as many tokens for everybody.
                nonce = random.randrange(100_000, 999_900)
                for engine in engines:
                    step(engine, nonce, into)
        for engine in engines:
            into.add("memory at its peak, MiB", engine, peak_mib(engine.pid()))
    finally:
        for engine in began:
            engine.stop()


def shown(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(engines, samples):
    """One row a figure: median and range of each engine, then the ratio of medians to the first."""
    names = [engine.name for engine in engines]
    ratios = [f"{name} ÷ {names[0]}" for name in names[1:]]
    rows = [["", *names, *ratios]]
    for figure, by in samples.rows.items():
        medians = {name: statistics.median(by[name]) for name in names if name in by}
        cells = [f"{shown(medians[name])} ({shown(min(by[name]))} to {shown(max(by[name]))})"
                 if name in by else "refused" if (figure, name) in samples.refusals else "not known"
                 for name in names]
        base = medians.get(names[0])
        cells += [f"{medians[name] / base:.2f}" if base and name in medians else ""
                  for name in names[1:]]
        rows.append([figure, *cells])
    lines = ["| " + " | ".join(row).strip() + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def report(engines, options, samples, before):
    parts = [
        f"# Engines side by side: {Path(options.gguf).name if options.gguf else 'by address'}", before,
        f"{options.threads} threads, {options.slots} slots of {options.context} tokens, answers of up "
        f"to {options.tokens} tokens; {options.rounds} rounds of {options.asks}; median (least to "
        f"most); load after {os.getloadavg()[0]:.2f}.",
    ]
    if options.gguf:
        parts.append(f"Model file: sha256 `{sha256(options.gguf)}`.")
    parts.append(table(engines, samples))
    return "\n\n".join(parts) + "\n"


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     epilog="See bench/README.md.")
    parser.add_argument("--gguf", metavar="FILE", help="the model file for the kept server")
    parser.add_argument("--engine", metavar="PATH", help="xllamacpp.abi3.so, under any name")
    parser.add_argument("--server", metavar="NAME=URL[,MODEL]", action="append", default=[],
                        help="a server that runs already; its key, if it wants one, in BENCH_API_KEY")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=4096, help="tokens of one slot")
    parser.add_argument("--streams", type=int, default=4, help="how many at once")
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asks", type=int, default=2, help="of each kind, in each round")
    parser.add_argument("--out", metavar="FILE", help="where the table goes, beside standard output")
    options = parser.parse_args(given)
    if bool(options.gguf) != bool(options.engine):
        parser.error("--gguf and --engine go together")
    engines = [Kept("kept server", options.gguf, options.engine, options)] if options.gguf else []
    for text in options.server:
        name, _, url = text.partition("=")
        if not name or not url:
            parser.error(f"--server {text}: write NAME=URL or NAME=URL,MODEL")
        engines.append(Running(name, *url.split(",", 1)))
    return options, engines


def run(options, engines):
    samples, before = Samples(), machine()
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        a_round(engines if number % 2 == 0 else engines[::-1], options, samples)
    text = report(engines, options, samples, before)
    print(text)
    if options.out:
        Path(options.out).write_text(text)


def main():
    options, engines = arguments()
    if not engines:
        raise SystemExit("nothing to measure: give --gguf with --engine, or --server")
    try:
        run(options, engines)
    except (Refused, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    main()

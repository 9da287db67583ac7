#!/usr/bin/env python3
"""How many of twenty ordinary questions (questions.toml) each model answers right.

  bench/models/questions.py --realm http://127.0.0.1:9000            all chat models of a running realm
  bench/models/questions.py --realm URL --model ID --model ID        these, of any OpenAI-compatible server
  bench/models/questions.py --mtor PROGRAM --engine PATH --gguf NAME=FILE …
                                                                     a realm of its own, a worker a model

Asked as the page asks a visitor's first question: nothing but the question and 512 tokens at most; no
temperature is named, so each model's server takes its own. Each question is a conversation of its own.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from client import Refused, Server, machine, said, sha256
from matcher import right

QUESTIONS = Path(__file__).with_name("questions.toml")
RESULT = Path(__file__).parents[1] / "results/questions.md"
# As the page sends it where its visitor changed nothing.
TOKENS_MAX = 512
# A model of a gigabyte is read from a slow disk, and answers a first question of the worker's own.
OFFER_PATIENCE_S = 300
QUOTED = 160


class Realm:
    """A realm of its own on loopback, ended with this program."""

    def __init__(self, mtor, folder):
        self.mtor, self.folder = mtor, Path(folder)
        arguments = ["up", "--data", str(self.folder / "realm"), "--listen", "127.0.0.1:0", "--json",
                     "--no-worker"]
        self.process = subprocess.Popen([mtor, *arguments], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the realm did not start")
        ready = json.loads(line)
        self.url, self.sysop = ready["url"], ready["sysop_secret"]

    @contextlib.contextmanager
    def worker(self, name, file, engine, threads):
        """Serves one model file; ended by its process id when its questions are over."""
        token = Server(self.url, self.sysop).call("POST", "/v1/sysop/workers/tokens")["token"]
        data = self.folder / f"worker-{name}"
        arguments = ["--json", "worker", "--realm", self.url, "--data", str(data), "--token-file", "-",
                     "--no-fft", "--no-echo", "--gguf", f"{name}={file}", "--engine", engine]
        if threads:
            arguments += ["--threads", str(threads)]
        process = subprocess.Popen([self.mtor, *arguments], stdin=subprocess.PIPE, text=True,
                                   stdout=subprocess.DEVNULL)
        try:
            process.stdin.write(token + "\n")
            process.stdin.close()
            self.wait_for(name, process)
            yield
        finally:
            process.terminate()
            process.wait()

    def wait_for(self, name, worker):
        ends = time.monotonic() + OFFER_PATIENCE_S
        while name not in Server(self.url).models():
            if worker.poll() is not None:
                raise SystemExit(f"the worker of {name} ended with status {worker.returncode}")
            if time.monotonic() > ends:
                raise SystemExit(f"{name} was not offered within {OFFER_PATIENCE_S} s")
            time.sleep(0.2)

    def end(self):
        self.process.terminate()
        self.process.wait()


def ask_all(server, model, questions, repeat, temperature):
    """For each question the answers, with whether they are right."""
    rows = []
    for question in questions:
        body = {"model": model, "messages": [{"role": "user", "content": question["ask"]}],
                "max_tokens": TOKENS_MAX}
        if temperature is not None:
            body["temperature"] = temperature
        texts = [server.ask(body).text for _ in range(repeat)]
        rows.append([(text, right(question, text)) for text in texts])
        good = sum(passed for _, passed in rows[-1])
        print(f"{model}: {question['id']}: {good} of {repeat}", file=sys.stderr, flush=True)
    return rows


def quoted(text):
    """One line of an answer that may hold anything."""
    short = " ".join(text.split())
    short = short if len(short) <= QUOTED else short[:QUOTED] + "…"
    return "`" + short.replace("`", "'").replace("|", "/") + "`" if short else "nothing"


def report(questions, results, options, before, notes):
    asked = len(questions) * options.repeat
    warmth = ("temperature: none is named, so each model's server takes its own (llama.cpp's is 0.8; "
              "a worker sets 0.4 for SmolLM2)")
    if options.temperature is not None:
        warmth = f"temperature: {options.temperature}"
    lines = ["# Twenty ordinary questions", "", before, "",
             f"Each asked {options.repeat} time{'s' * (options.repeat > 1)} a model, as the page asks: the "
             f"question alone, {TOKENS_MAX} tokens at most; {warmth}. Right is what "
             "[`matcher.py`](../models/matcher.py) says by the key words of "
             "[`questions.toml`](../models/questions.toml).", ""]
    lines += [f"{note}\n" for note in notes]
    lines += ["| model | right | of | in a round |", "|---|---|---|---|"]
    for model, rows in results.items():
        good = sum(passed for row in rows for _, passed in row)
        lines.append(f"| {model} | {good} | {asked} | {good / options.repeat:.1f} of {len(questions)} |")
    lines += ["", "| question | " + " | ".join(results) + " |", "|---" * (1 + len(results)) + "|"]
    for at, question in enumerate(questions):
        cells = [f"{sum(passed for _, passed in rows[at])} of {len(rows[at])}" for rows in results.values()]
        lines.append(f"| {question['ask']} | " + " | ".join(cells) + " |")
    lines += ["", "## What was not right", ""]
    for model, rows in results.items():
        for question, row in zip(questions, rows):
            lines += [f"- {model}, {question['id']}: {quoted(text)}" for text, passed in row if not passed]
    return "\n".join(lines) + "\n"


def keep_answers(file, questions, results):
    """All answers as JSON lines, for whoever wants to judge for himself."""
    with open(file, "w") as out:
        for model, rows in results.items():
            for question, row in zip(questions, rows):
                for text, passed in row:
                    told = {"model": model, "ask": question["ask"], "right": passed, "answer": text}
                    out.write(json.dumps(told, ensure_ascii=False) + "\n")


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See bench/README.md.")
    parser.add_argument("--realm", metavar="URL", help="a realm, or another OpenAI-compatible server")
    parser.add_argument("--key-file", metavar="FILE", help="its API key; a realm gives guests one")
    parser.add_argument("--model", metavar="ID", action="append", default=[])
    parser.add_argument("--mtor", metavar="PROGRAM", help="start a realm of its own with this binary")
    parser.add_argument("--engine", metavar="PATH", help="what its workers run model files with")
    parser.add_argument("--gguf", metavar="NAME=FILE", action="append", default=[],
                        help="one after the other, a worker each; with --realm only their hashes are taken")
    parser.add_argument("--threads", type=int, help="of a worker's model; the worker's own choice")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--out", metavar="FILE", default=str(RESULT))
    parser.add_argument("--answers", metavar="FILE", help="all answers, as JSON lines")
    options = parser.parse_args(given)
    if bool(options.realm) == bool(options.mtor):
        parser.error("give either --realm, or --mtor with --engine and --gguf")
    if options.mtor and not (options.engine and options.gguf):
        parser.error("--mtor wants --engine and --gguf")
    for text in options.gguf:
        name, _, file = text.partition("=")
        if not name or not Path(file).is_file():
            parser.error(f"--gguf {text}: write NAME=FILE, a file that is there")
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    return options


def with_key(url, key_file):
    """A client with a key: the one of the file, or a guest's where the server is a realm."""
    if key_file:
        return Server(url, Path(key_file).read_text().strip())
    try:
        return Server(url, Server(url).call("POST", "/v1/accounts/guest", {})["api_key"])
    except Refused:
        return Server(url)


def own_realm(options, questions):
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        realm = Realm(options.mtor, folder)
        try:
            for text in options.gguf:
                name, _, file = text.partition("=")
                with realm.worker(name, file, options.engine, options.threads):
                    server = with_key(realm.url, None)
                    results[name] = ask_all(server, name, questions, options.repeat, options.temperature)
        finally:
            realm.end()
    return results


def chat_models(server):
    """A realm tells what each model is for; another server is taken by its word."""
    try:
        return [pool["model"] for pool in server.call("GET", "/v1/pools")["items"]
                if pool["intent"] == "chat"]
    except Refused:
        return server.models()


def main():
    options = arguments()
    questions = tomllib.loads(QUESTIONS.read_text())["question"]
    before, notes = machine(), []
    if options.mtor:
        notes.append(f"{said(str(Path(options.mtor).absolute()), '--version')}: a realm and a worker a model.")
        results = own_realm(options, questions)
    else:
        server = with_key(options.realm, options.key_file)
        models = options.model or chat_models(server)
        results = {model: ask_all(server, model, questions, options.repeat, options.temperature)
                   for model in models}
    for text in options.gguf:
        name, _, file = text.partition("=")
        notes.append(f"{name}: `{Path(file).name}`, {os.path.getsize(file)} bytes, sha256 `{sha256(file)}`.")
    if options.answers:
        keep_answers(options.answers, questions, results)
    text = report(questions, results, options, before, notes)
    print(text)
    Path(options.out).write_text(text)


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error

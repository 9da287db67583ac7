"""What the two programs beside this file share: one streamed chat answer with its times, and the line
that says where and of what a figure was taken. Python's standard library alone (3.11 or newer)."""

import hashlib
import http.client
import json
import os
import re
import subprocess
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

# An answer of a large model on a busy machine takes minutes; its pieces come all the time.
PIECE_PATIENCE_S = 300


class Refused(Exception):
    """The server said no, or broke off: its own words."""


@dataclass
class Answer:
    """Times in seconds since the request was sent."""

    text: str
    first: float
    whole: float
    prompt_tokens: int
    tokens: int
    finish: str | None

    @property
    def rate(self):
        """Tokens a second from the first piece on; None where there is no second token."""
        spent = self.whole - self.first
        return (self.tokens - 1) / spent if self.tokens > 1 and spent > 0 else None


class Server:
    """An OpenAI-compatible server by its address, with or without /v1."""

    def __init__(self, url, key=None):
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no address: write http://HOST:PORT")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.parts, self.key = parts, key
        self.root = parts.path.rstrip("/").removesuffix("/v1")

    def _send(self, method, path, body=None):
        https = self.parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        line = kind(self.parts.hostname, self.parts.port, timeout=PIECE_PATIENCE_S)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        line.request(method, self.root + path, json.dumps(body) if body is not None else None, headers)
        return line, line.getresponse()

    def call(self, method, path, body=None):
        line, reply = self._send(method, path, body)
        text = reply.read().decode("utf-8", "replace")
        line.close()
        if reply.status >= 300:
            raise Refused(f"{method} {path}: {reply.status} {text[:300]}")
        return json.loads(text)

    def models(self):
        return [model["id"] for model in self.call("GET", "/v1/models")["data"]]

    def ask(self, body):
        """One streamed answer. The time to the first piece is that of the first piece with text."""
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        began = time.perf_counter()
        line, reply = self._send("POST", "/v1/chat/completions", body)
        if reply.status != 200:
            raise Refused(f"{reply.status} {reply.read().decode('utf-8', 'replace')[:300]}")
        gathered = Gathered(began)
        for row in reply:
            if not row.startswith(b"data:"):
                continue
            data = row[5:].strip()
            if data == b"[DONE]":
                break
            gathered.take(json.loads(data))
        line.close()
        return gathered.answer()


class Gathered:
    """The pieces of one answer, as they come."""

    def __init__(self, began):
        self.began, self.first, self.last = began, None, None
        self.texts, self.usage, self.finish = [], None, None

    def take(self, piece):
        if "error" in piece:
            raise Refused(json.dumps(piece["error"])[:300])
        if piece.get("usage"):
            self.usage = piece["usage"]
        for choice in piece.get("choices") or []:
            self.finish = choice.get("finish_reason") or self.finish
            text = (choice.get("delta") or {}).get("content")
            if text:
                self.last = time.perf_counter() - self.began
                self.first = self.last if self.first is None else self.first
                self.texts.append(text)

    def answer(self):
        if self.finish is None:
            raise Refused("the stream broke off before its end")
        # A server that tells no usage sends one token a piece, as far as is known.
        usage = self.usage or {"prompt_tokens": 0, "completion_tokens": len(self.texts)}
        now = time.perf_counter() - self.began
        return Answer("".join(self.texts), self.first or now, self.last or now,
                      usage["prompt_tokens"], usage["completion_tokens"], self.finish)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def said(*command):
    """What a program says, or nothing where it cannot."""
    here = Path(__file__).parent
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    """As in the other results: processor, kernel, commit, date, and what else the cores had to do."""
    cpus = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    names = [row.split(":", 1)[1].strip() for row in cpus.splitlines() if row.startswith("model name")]
    dirty = "+changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    commit = said("git", "rev-parse", "--short", "HEAD") + dirty
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    load = os.getloadavg()[0]
    name = names[0] if names else "?"
    parts = [f"{name}, {os.cpu_count()} cores, {said('uname', '-sr')}", f"commit {commit}", date,
             f"load before {load:.2f}"]
    return "; ".join(parts + niceness())


def niceness():
    """Ahead of others' work or behind it: its own, and that of its session where the kernel shares
    the cores by session first (autogroup)."""
    own, group = os.nice(0), Path("/proc/self/autogroup")
    session = re.search(r"nice (-?\d+)", group.read_text()) if group.exists() else None
    of_session = int(session.group(1)) if session else 0
    words = [f"niceness {own}"] if own else []
    return words + ([f"niceness of its session {of_session}"] if of_session else [])

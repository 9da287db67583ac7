#!/usr/bin/env python3
"""What a newcomer waits for: `make run` twice in a bare Debian, each until the page is there and until
the default model has answered a question.

  sudo bench/models/first_run.py                       the model from where the catalogue says
  sudo bench/models/first_run.py --source DIR          the model from a folder, at 100 Mbit/s of loopback

Cargo and node are this machine's own, and so are the settings of its package clients; everything else
is installed by `make run` itself. The clone is of the last commit. Needs root, mmdebstrap and some
10 GB of disk; an idle machine, or the minutes say nothing. The root and all mounts are gone afterwards.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from client import Refused, Server, machine, said

REPOSITORY = Path(__file__).parents[2]
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}],
            "model": "auto", "max_tokens": 40}
# 100 Mbit/s.
LINE = 12_500_000
SETTINGS = ["/etc/pip.conf", "/etc/npmrc", "~/.npmrc", "~/.config/pip/pip.conf", "~/.cargo/config.toml",
            "/etc/ssl/certs/ca-certificates.crt"]
# What would lead the bare machine to this one's tools.
OWN = re.compile(r"HOME|PATH|OLDPWD|PWD|PYENV.*|CARGO.*|RUSTUP.*|MTOR_.*|PIP_FIND_LINKS|VIRTUAL_ENV")
PATIENCE_S = 3600


class Rated(SimpleHTTPRequestHandler):
    """Files from any place in them, at the rate of the line."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        began, sent = time.monotonic(), 0
        with path.open("rb") as file:
            file.seek(start)
            while piece := file.read(1 << 17):
                try:
                    self.wfile.write(piece)
                except OSError:
                    return
                sent += len(piece)
                time.sleep(max(0.0, sent / LINE - (time.monotonic() - began)))


def serve(folder):
    """The address of a folder's files, until the program ends."""
    def handler(*arguments):
        return Rated(*arguments, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def bare(root):
    """A Debian with git and make, this machine's cargo and node, and a clone of the last commit."""
    run("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates,git,make", "bookworm", root,
        "/etc/apt/sources.list.d/debian.sources")
    for name in SETTINGS:
        file = Path(name).expanduser()
        if file.is_file():
            place = root / str(file).replace(os.path.expanduser("~"), "/root").lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    npm = Path(shutil.which("npm")).resolve().parents[1]
    shutil.copy(Path(shutil.which("node")).resolve(), root / "usr/local/bin/node")
    shutil.copytree(npm, root / "usr/local/lib/node_modules/npm", symlinks=True)
    (root / "usr/local/bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
    (root / "opt/rust").mkdir()
    run("git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, root / "root/mtor")


def start(root, listen, source):
    """`make run` in the bare root, in a mount and process namespace that ends with it."""
    sysroot = said("rustc", "--print", "sysroot")
    root_word = shlex.quote(str(root))
    script = f"""
        mount --make-rprivate / && mount --bind {shlex.quote(sysroot)} {root_word}/opt/rust
        mount -t proc proc {root_word}/proc && mount --rbind /dev {root_word}/dev
        exec chroot {root_word} /bin/sh -c 'cd ~/mtor && exec make run ARGS="--listen {listen}"'"""
    kept = {name: value for name, value in os.environ.items() if not OWN.fullmatch(name)}
    environment = {**kept, "HOME": "/root",
                   "PATH": "/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if source:
        environment["MTOR_MODEL_SOURCE"] = source
    return subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script],
                            env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def until(child, what, ready):
    """Asks `ready` until it gives something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if child.poll() is not None:
            sys.exit(f"first_run: make run ended with {child.returncode} before {what}")
        try:
            if found := ready():
                return found
        except (OSError, Refused):
            pass
        time.sleep(0.1)
    sys.exit(f"first_run: no {what} after {PATIENCE_S} s")


def received():
    """Bytes that came from outside this machine, as the kernel counts them."""
    rows = [row.split(":") for row in Path("/proc/net/dev").read_text().splitlines()[2:]]
    return sum(int(row[1].split()[0]) for row in rows if row[0].strip() != "lo")


def page(address):
    with urllib.request.urlopen(address, timeout=5) as reply:
        return reply.status == 200


def guest(address):
    request = urllib.request.Request(f"{address}/v1/accounts/guest", method="POST")
    with urllib.request.urlopen(request, timeout=5) as reply:
        return re.search(r'"api_key":\s*"([^"]+)"', reply.read().decode()).group(1)


def answer(address, key):
    """The answer of the model that is meant to stay: one that stands in for it is not waited for."""
    server = Server(address, key)
    listed = server.call("GET", "/v1/models")
    now = listed.get("default", {}).get("chat")
    if not now or listed.get("preferred", {}).get("chat", now) != now:
        return None
    return now, server.ask(QUESTION)


def measure(root, source):
    address = "http://127.0.0.1:9111"
    began, before = time.monotonic(), received()
    child = start(root, address.removeprefix("http://"), source)
    try:
        until(child, "the page", lambda: page(address))
        shown = time.monotonic() - began
        key = guest(address)
        model, first = until(child, "an answer", lambda: answer(address, key))
        answered = time.monotonic() - began - (first.whole - first.first)
        return shown, answered, received() - before, model, first.text
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of model files by their official names")
    parser.add_argument("--folder", type=Path, help="where the bare root stands meanwhile (default: the temporary folder)")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        sys.exit("first_run: needs root and mmdebstrap (apt-get install mmdebstrap)")
    where = machine()
    source = serve(options.source) if options.source else None
    root = Path(tempfile.mkdtemp(prefix="first-run-", dir=options.folder))
    try:
        bare(root)
        print(f"# From `make run` to an answer\n{where}; {said('rustc', '--version')}\n")
        print("| | page, s | first piece of the answer, s | bytes from outside | model |\n|---|---|---|---|---|")
        for name in ["bare machine", "again"]:
            shown, answered, bytes_, model, text = measure(root, source)
            print(f"| {name} | {shown:.1f} | {answered:.1f} | {bytes_:,} | {model}: {text.strip()!r} |", flush=True)
        if source:
            print(f"\nThe model came from loopback at {LINE:,} bytes a second, and is not among the bytes from outside.")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()

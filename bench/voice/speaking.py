#!/usr/bin/env python3
"""How fast the model that speaks is, and what memory it takes: `mtor-models --serve speak` over its pipes.

  bench/voice/speaking.py --models DIR [--threads 1 2] [--program target/release/mtor-models]

For each number of threads: the seconds to the offer, the memory then; for a short, an ordinary and a
long text the seconds to the first piece, the seconds in all, the sound's length, how many seconds of
sound come in a second, and in a second of processor, which also a busy machine tells; the most memory at
the end.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "bench/models"))

from client import machine  # noqa: E402

SENTENCES = ("The harbor was quiet when they came home. Nobody had waited for them, except an old dog that "
             "slept on the stairs. It opened one eye, looked at them for a while, and slept on. "
             "In the kitchen somebody had left bread, three apples and a letter on the table. ")
TEXTS = {"short": "Good morning.", "ordinary": SENTENCES, "long": SENTENCES * 4}


class Program:
    def __init__(self, path, models, threads):
        begin = time.monotonic()
        self.process = subprocess.Popen(
            [path, "--models", models, "--serve", "speak", "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.event()
        self.loaded = time.monotonic() - begin

    def event(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the program ended")
        return json.loads(line)

    def memory(self, which):
        """In megabytes, as Linux tells it: VmRSS now, VmHWM at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1000

    def cpu(self):
        """Seconds of processor that it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def say(self, name, text):
        data = {"intent": name, "attempt": 1, "name": "speak", "stream": True, "data": {"input": text}}
        event = {"specversion": "1.0", "id": "1", "source": "/bench", "type": "mtor.worker.assign.v1",
                 "data": data}
        begin, cpu, first = time.monotonic(), self.cpu(), None
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        while True:
            said = self.event()
            first = first or time.monotonic() - begin
            if said["type"] == "mtor.worker.complete.v1":
                spent = time.monotonic() - begin
                sound = said["data"]["result"]["duration_ms"] / 1000
                cpu = self.cpu() - cpu
                print(f"| {name} | {first:.2f} | {spent:.2f} | {sound:.2f} | {sound / spent:.2f} | {sound / cpu:.2f} |")
                return
            if said["type"] == "mtor.worker.fail.v1":
                raise SystemExit(said["data"]["message"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--models", default=REPOSITORY / ".models")
    arguments.add_argument("--program", default=REPOSITORY / "target/release/mtor-models")
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    asked = arguments.parse_args()
    print(machine())
    for threads in asked.threads:
        program = Program(asked.program, asked.models, threads)
        print(f"\nthreads: {threads}; offered after {program.loaded:.1f} s; idle {program.memory('VmRSS'):.0f} MB\n")
        print("| text | first piece, s | all, s | sound, s | times real time | sound a second of processor |\n"
              "|---|---|---|---|---|---|")
        for name, text in TEXTS.items():
            program.say(name, text)
        print(f"\nat most {program.memory('VmHWM'):.0f} MB")
        program.process.stdin.close()
        program.process.wait()


if __name__ == "__main__":
    main()

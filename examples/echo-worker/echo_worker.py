#!/usr/bin/env python3
"""The smallest MTOR executor: one CloudEvents object a line in, one a line out."""
import itertools
import json
import sys

ids = itertools.count(1)


def say(kind, **data):
    event = {"specversion": "1.0", "id": str(next(ids)), "source": "/echo-worker",
             "type": f"mtor.worker.{kind}.v1", "data": data}
    print(json.dumps(event), flush=True)


say("offer", offers=[{"intent": "echo", "slots": 4}])
for line in sys.stdin:
    event = json.loads(line)
    if event["type"] == "mtor.worker.assign.v1":
        work = event["data"]
        key = {"intent": work["intent"], "attempt": work["attempt"]}
        if work["stream"]:
            say("chunk", **key, seq=0, count=1, piece=work["data"])
        say("complete", **key, usage={"units": 1}, result=work["data"])

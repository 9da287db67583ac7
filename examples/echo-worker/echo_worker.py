#!/usr/bin/env python3
"""The smallest MTOR executor: one CloudEvents object a line in, one a line out."""
import itertools
import json
import sys

ids = itertools.count(1)


def say(kind, **data):
    event = {"specversion": "1.0", "id": str(next(ids)), "source": "/echo-worker",
             "type": f"mtor.worker.{kind}.v1", "data": data}
    print(json.dumps(event, allow_nan=False), flush=True)  # NaN is not JSON


def whole(digits):  # Python refuses to read longer ones
    return int(digits) if len(digits) < 4000 else float(digits)


say("offer", offers=[{"intent": "echo", "slots": 4}])
for line in sys.stdin:
    event = json.loads(line, parse_int=whole)
    if event["type"] != "mtor.worker.assign.v1":
        continue
    work = event["data"]
    key = {"intent": work["intent"], "attempt": work["attempt"]}
    try:
        if work["stream"]:
            say("chunk", **key, seq=0, count=1, piece=work["data"])
        say("complete", **key, usage={"units": 1}, result=work["data"])
    except ValueError as error:  # one bad request does not end the program
        say("fail", **key, code="bad_request", message=f"data: {error}"[:200], retry=False)

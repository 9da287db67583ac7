#!/usr/bin/env python3
"""The smallest MTOR executor: one CloudEvents object a line in, one a line out."""
import json, sys, time

sys.set_int_max_str_digits(0)  # JSON knows no longest number


def say(kind, **data):
    event = {"specversion": "1.0", "id": str(time.monotonic_ns()), "source": "/echo-worker", "type": f"mtor.worker.{kind}.v1"}
    print(json.dumps(event | {"data": data}, allow_nan=False), flush=True)


say("offer", offers=[{"intent": "echo", "slots": 1}])
for event in map(json.loads, sys.stdin):
    if event["type"] != "mtor.worker.assign.v1":
        continue
    key, data = {name: event["data"][name] for name in ("intent", "attempt")}, event["data"]["data"]
    wish = data.get if isinstance(data, dict) else lambda name, default: default
    chunks, pause = wish("chunks", 0), wish("delayms", 0)
    try:
        if chunks not in range(10_001) or pause not in range(60_001):
            raise ValueError("chunks: up to 10000, delayms: up to 60000")
        for seq in range(max(chunks, 1)):
            time.sleep(pause / 1000)
            if chunks and event["data"]["stream"]:
                say("chunk", **key, seq=seq, count=1, piece=data)
        say("complete", **key, usage={"units": 1}, result=data)
    except Exception as error:  # one bad request does not end the program
        say("fail", **key, code="bad_request", message=str(error), retry=False)

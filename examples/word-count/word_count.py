import json, sys


def say(kind, **data):
    event = {"specversion": "1.0", "id": "1", "source": "/word-count", "type": f"mtor.worker.{kind}.v1", "data": data}
    print(json.dumps(event), flush=True)


say("offer", offers=[{"intent": "word-count", "slots": 2}])
for event in map(json.loads, sys.stdin):
    if event["type"] != "mtor.worker.assign.v1":
        continue  # such as revoke: nothing here runs long enough to be stopped
    work, counts = event["data"], {}
    key = {"intent": work["intent"], "attempt": work["attempt"]}
    units = work["meter"]["input"]  # this manifest counts the bytes of the request
    for seq, line in enumerate(work["data"]["text"].splitlines()):
        for word in line.lower().split():
            counts[word] = counts.get(word, 0) + 1
        if work["stream"]:
            say("chunk", **key, seq=seq, count=units, piece={"line": seq + 1, "words": len(line.split())})
    say("complete", **key, usage={"units": units}, result=counts)

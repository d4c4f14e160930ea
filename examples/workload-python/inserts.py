#!/usr/bin/env python3
"""A workload in Python, without any library: the twin of examples/workload-go.

It inserts keys into a service of registers over HTTP and reads them back from each of its replicas.

    programs:  {inserts: {exec: inserts.py}}
    workloads: {inserts: {exec: [inserts], to: gateway}}
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request


def say(**message):
    # One write a line: a print of two parts could be cut between them.
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def request(node, key, body=None):
    """Returns status and body; raises OSError when there was no answer."""
    req = urllib.request.Request(
        "http://%s:%d/registers/%s" % (node["name"], node["port"], key),
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="GET" if body is None else "PUT",
    )
    try:
        with urllib.request.urlopen(req, timeout=1) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def operation(op, key, act, **more):
    """Times act, which returns (outcome, fields), and reports it."""
    call = time.time_ns()
    outcome, fields = act()
    say(type="op", op=op, key=key, call=call, outcome=outcome, **{"return": max(time.time_ns(), call)}, **more, **fields)


def insert(node, key, value):
    try:
        status, _ = request(node, key, {"value": value, "expectRevision": 0})
    except urllib.error.URLError as error:
        # Refused: nobody heard it. Anything else may have been heard.
        refused = isinstance(error.reason, ConnectionRefusedError)
        return ("failed" if refused else "unknown"), {"error": str(error)}
    except OSError as error:
        return "unknown", {"error": str(error)}
    if status == 200:
        return "ok", {}
    return ("failed" if 400 <= status < 500 else "unknown"), {"error": "status %d" % status}


def read(node, key):
    try:
        status, body = request(node, key)
    except OSError as error:
        return "failed", {"error": str(error)}
    if status == 404:
        return "ok", {"found": False}
    if status != 200:
        return "failed", {"error": "status %d" % status}
    return "ok", {"found": True, "value": json.loads(body)["value"]}


def work(start, nodes, keys, stopping):
    n = 0
    while not stopping.wait(0.02):
        key, node = "py-%d-%d" % (start["round"], n), nodes[n % len(nodes)]
        value = "%s.%d" % (start["run"], n)
        keys.append(key)
        operation("insert", key, lambda: insert(node, key, value), client=0, value=value)
        n += 1


def main():
    say(type="hello", version=1)
    start, nodes, keys, stopping, worker = None, [], [], threading.Event(), None
    for line in sys.stdin:
        command = json.loads(line)
        if command["type"] == "start":
            start = command
            to = start.get("to")
            nodes = [n for n in start["nodes"] if n.get("port") and to in (n["service"], n.get("group"), n["name"])]
            if not nodes:
                say(type="error", error="the topology has no %r with a port" % to)
                return 1
            worker = threading.Thread(target=work, args=(start, nodes, keys, stopping))
            worker.start()
        elif command["type"] == "stop":
            stopping.set()
            worker.join()
            say(type="done")
        elif command["type"] == "verify":
            for node in nodes:
                if node["name"] in command["members"]:
                    for key in keys:
                        operation("read", key, lambda: read(node, key), member=node["name"])
            say(type="done")
        else:
            say(type="error", error="no command is of type %r" % command["type"])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One run of the built binary over a topic, measured by the run's own metrics.

The rate is that of rows 20 % to 100 %, as committed: the metrics are read ten times a second, near the end every 20 ms.
What comes after the last commit (a checkpoint of all state) is in the CPU and in the seconds, not in the rate. The CPU
of this script is in it, too, so it imports little. $PIPELINE is the binary, by
default the release build of this repository; $BENCH_OPTIONS are more options of `pipeline run`.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

BINARY = os.environ.get("PIPELINE") or Path(__file__).resolve().parents[3] / "target/release/pipeline"
READ = re.compile(rb"^messages_processed_total(?:\{.*\})? (\d+)", re.M)


def committed(port):
    """The rows that are committed; none as long as nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    except OSError:
        return None
    found = READ.search(answer)
    return int(found[1]) if found else 0


def run(peer, file, brokers, topic, rows):
    """Runs a pipeline file whose sinks are `scored` (all rows) and `found` (the anomalies); what a peer prints."""
    with tempfile.TemporaryDirectory() as state:
        values = {"STATE": state, "BROKERS": brokers, "TOPIC": topic, "GROUP": f"bench-{uuid.uuid4()}"}
        environment = dict(os.environ, **{f"BENCH_{name}": value for name, value in values.items()})
        options = shlex.split(os.environ.get("BENCH_OPTIONS", ""))
        port = os.environ.get("BENCH_PORT", "9764")
        command = [BINARY, "run", file, "--once", "--dashboard", f"127.0.0.1:{port}", *options]
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        steady = last = None
        while process.poll() is None:
            done = committed(int(port))
            if steady is None and done is not None and 0.2 * rows <= done:
                steady = (time.monotonic(), done)
            if last is None and done == rows:
                last = time.monotonic()
            time.sleep(0.1 if done is not None and done < 0.85 * rows else 0.02)
        ended = time.monotonic()
        said = process.stdout.read()
    books = {name: int(taken.replace(",", "")) for name, taken in re.findall(r"^ +(\w+) +\S+ +([\d,]+) ", said, re.M)}
    if process.returncode != 0 or steady is None or "scored" not in books:
        sys.exit(f"the run ended with {process.returncode} and said:\n{said}")
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return {
        "peer": peer,
        "version": version,
        "rows": books["scored"],
        "anomalies": books["found"],
        "seconds": round(ended - began, 3),
        "steady_rows_per_s": round((books["scored"] - steady[1]) / ((last or ended) - steady[0])),
    }

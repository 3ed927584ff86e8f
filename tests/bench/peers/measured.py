"""One run of the built binary over a topic, measured by the run's own metrics.

measured.py PEER FILE BROKERS TOPIC ROWS prints one line of JSON.

The rate is that of rows 20 % to 100 %, as committed: the metrics are read ten times a second, and sooner and sooner
towards the end, the last time within 20 ms of it.
What comes after the last commit (a checkpoint of all state) is in the CPU and in the seconds, not in the rate. The CPU
of this script is in it, too, so it imports little. $PIPELINE is the binary, by default the release build of this
repository; $BENCH_OPTIONS are more options of `pipeline run`. With $BENCH_LIVE the topic is still being written: the run
is stopped when all of its rows are committed.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

REPOSITORY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../..")
BINARY = os.environ.get("PIPELINE") or os.path.join(REPOSITORY, "target/release/pipeline")
MIB_OF_A_PAGE = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
TICKS_OF_A_SECOND = os.sysconf("SC_CLK_TCK")
READ = re.compile(rb"^messages_processed_total(?:\{.*\})? (\d+)", re.M)
VERSION = re.compile(rb'^pipeline_info\{.*version="([^"]+)"', re.M)
LONGEST_PAUSE, SHORTEST_PAUSE = 0.1, 0.02


def look(port):
    """The rows that are committed and the version of the program; none as long as nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    except OSError:
        return None
    done, version = READ.search(answer), VERSION.search(answer)
    # A run that ends may answer in part.
    return version and (int(done[1]) if done else 0, version[1].decode())


def pause(samples, rows):
    """How long until the next look: half of what is left as it goes, so that the end is not missed by much.

    How it goes is seen since the last look that saw fewer rows: at first none come for a while.
    """
    before = next((sample for sample in reversed(samples) if sample[1] < samples[-1][1]), None)
    if before is None:
        return LONGEST_PAUSE
    (first_at, first, _), (last_at, last, _) = before, samples[-1]
    left = (rows - last) * (last_at - first_at) / (last - first)
    return min(max(left / 2, SHORTEST_PAUSE), LONGEST_PAUSE)


def used(process):
    """Its memory in MiB, and the CPU-seconds it has used; none once it has ended."""
    try:
        memory = contents(f"/proc/{process.pid}/statm").split()[1]
        user, system = contents(f"/proc/{process.pid}/stat").rsplit(")", 1)[1].split()[11:13]
    except (OSError, IndexError):
        return None
    return int(memory) * MIB_OF_A_PAGE, (int(user) + int(system)) / TICKS_OF_A_SECOND


def contents(path):
    with open(path) as file:
        return file.read()


@contextmanager
def folder():
    """A folder for a run alone. `tempfile` would import what takes as long as all else here."""
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"pipeline-bench-{os.getpid()}-{time.time_ns()}")
    os.mkdir(path)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def measure(file, brokers, topic, rows):
    """Runs a pipeline file; (time, rows committed, `used`) as seen, what the books say of each stage, the seconds, and the
    version of the program.
    """
    with folder() as state:
        values = {"STATE": state, "BROKERS": brokers, "TOPIC": topic, "GROUP": os.path.basename(state)}
        environment = dict(os.environ, **{f"BENCH_{name}": value for name, value in values.items()})
        options = shlex.split(os.environ.get("BENCH_OPTIONS", ""))
        port = os.environ.get("BENCH_PORT", "9764")
        is_live = bool(os.environ.get("BENCH_LIVE"))
        command = [BINARY, "run", file, *([] if is_live else ["--once"]), "--dashboard", f"127.0.0.1:{port}", *options]
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        samples, version, is_over = [], None, False
        while process.poll() is None:
            seen = None if is_over else look(int(port))
            if seen:
                done, version = seen
                samples.append((time.monotonic(), done, used(process)))
                is_over = done == rows
                if is_over and is_live:
                    process.send_signal(signal.SIGINT)
            time.sleep(LONGEST_PAUSE if is_live else pause(samples, rows))
        ended = time.monotonic()
        said = process.stdout.read()
    books = {name: int(taken.replace(",", "")) for name, taken in re.findall(r"^ +(\w+) +\S+ +([\d,]+) ", said, re.M)}
    if process.returncode != 0 or "scored" not in books:
        sys.exit(f"the run ended with {process.returncode} and said:\n{said}")
    if not is_over:
        samples.append((ended, books["scored"], None))
    return samples, books, ended - began, version


def run(peer, file, brokers, topic, rows):
    """Runs a pipeline file whose sinks are `scored` (all rows) and `found` (the anomalies); what a peer prints."""
    samples, books, seconds, version = measure(file, brokers, topic, rows)
    first = next((at, done) for at, done, _ in samples if 0.2 * rows <= done)
    last = samples[-1]
    if last[0] <= first[0]:
        sys.exit(f"{rows} rows were read before anybody could look twice")
    return {
        "peer": peer,
        "version": version,
        "rows": books["scored"],
        "anomalies": books["found"],
        "seconds": round(seconds, 3),
        "steady_rows_per_s": round((last[1] - first[1]) / (last[0] - first[0])),
    }


if __name__ == "__main__":
    peer, file, brokers, topic, rows = sys.argv[1:]
    print(json.dumps(run(peer, file, brokers, topic, int(rows))))

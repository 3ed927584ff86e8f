"""`heartbeat`: rows as lines of JSON, in a file for each task, exactly once.

A file cannot take rows and a mark in one transaction. So the engine keeps the mark, with the length of the file in it,
and after a crash hands it to `claim`, which cuts off what was written later: the engine writes it again.
"""

import json
import os

from pipeline_plugin import ConfigError, Sink, TransientError, option


class Heartbeat(Sink):
    """Appends rows as lines of JSON to a file for each task, exactly once."""

    name = "heartbeat"
    example = """
        archive:
          type: heartbeat
          inputs: [readings]
          path: rows
    """
    delivery = "truncating"

    path: str = option(..., "The files, relative to the pipeline file: the task and the state's id are added.")

    def setup(self):
        if not self.path:
            raise ConfigError("`path` is empty, it must name a file", "path")
        self.files = {}

    def claim(self, owner):
        if owner.task not in self.files:
            # A new life of the state begins a new file: nothing is cut off that an earlier one has written.
            name = f"{self.path}.{owner.task.replace('/', '-')}.{owner.state_id[:8]}.jsonl"
            self.files[owner.task] = self.tried(lambda: open(os.path.join(self.context.directory, name), "a+b"))
        file = self.files[owner.task]
        length = int(owner.stored.detail) if owner.stored and owner.stored.detail else 0
        self.tried(lambda: file.truncate(length))
        return owner.stored

    def commit(self, epochs):
        lengths = []
        for epoch in epochs:
            file = self.files[epoch.mark.task]
            for batch in epoch.batches:
                lines = "".join(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())
                self.tried(lambda: file.write(lines.encode()))
            self.tried(lambda: (file.flush(), os.fsync(file.fileno())))
            lengths.append(str(os.fstat(file.fileno()).st_size))
        return lengths

    def tried(self, work):
        """Does it; what fails may work later, and is cut off then."""
        try:
            return work()
        except OSError as error:
            raise TransientError(f"`{self.path}` cannot be written") from error

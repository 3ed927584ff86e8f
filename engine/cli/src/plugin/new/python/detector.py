"""`heartbeat`: how much larger the step to this reading is than the steps before it."""

import sys
from dataclasses import dataclass
from typing import Optional

from pipeline_plugin import Detector, Score, option

#: Fewer steps say little about what is usual.
MIN_STEPS = 8


@dataclass
class Past:
    """What is remembered of a series: the engine keeps it, saves it, and gives it back after a restart."""

    last: Optional[float] = None
    usual_step: float = 0.0
    steps: int = 0


class Heartbeat(Detector):
    """Scores a reading by how many times larger its step is than steps of its series usually are.

    A step is the distance to the reading before it. What is usual is learned from the latest steps; one that is an
    anomaly counts as much as `threshold` allows, so that an outlier does not become the norm. There is no score for
    the first readings of a series, nor while it does not move at all.
    """

    name = "heartbeat"
    statistic = "step_ratio"
    state_version = 1  # raise it when `Past` changes
    example = """
        jumps:
          type: heartbeat
          inputs: [readings]
          value: value
          threshold: 4.0
    """

    threshold: float = option(4.0, "How many times larger than usual a step must be to be an anomaly.", above=1)
    memory: int = option(30, "From how many steps the usual one is learned.", minimum=2, maximum=100_000)

    def start(self):
        return Past()

    def observe(self, series, reading):
        last, series.last = series.last, reading.value
        if last is None:
            return None
        # The distance of two finite numbers may be infinite, and only finite ones may be remembered.
        step = min(abs(reading.value - last), sys.float_info.max)
        score = self.score(series, last, step)
        self.learn(series, step)
        return score

    def score(self, past, last, step):
        if past.steps < MIN_STEPS or past.usual_step == 0.0:
            return None
        ratio = min(step / past.usual_step, sys.float_info.max)
        margin = self.threshold * past.usual_step
        return Score(
            score=ratio / self.threshold,
            expected=last,
            lower=last - margin,
            upper=last + margin,
            statistic=ratio,
            is_anomaly=self.threshold < ratio,
        )

    def learn(self, past, step):
        is_first_move = past.usual_step == 0.0
        learned = step if is_first_move else min(step, self.threshold * past.usual_step)
        past.steps += 1
        # `memory` may have been larger when the series was saved: it is looked at here, not there.
        past.usual_step += (learned - past.usual_step) / min(past.steps, self.memory)

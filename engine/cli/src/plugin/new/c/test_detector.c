/* Tests of heartbeat.c: `make test`. */
#include "heartbeat.c"

#include <string.h>

static int failed = 0;

static void expect(int holds, const char *what) {
  printf("%s %s\n", holds ? "ok    " : "FAILED", what);
  failed += !holds;
}

static const Options USUAL = {4.0, 30};

/* Gives readings that move by 1, up and down; how many scores came of them. */
static int steady(Past *past, int readings) {
  PipelineScore score;
  int scores = 0;
  for (int i = 0; i < readings; i++) {
    scores += observe(&USUAL, past, &(PipelineReading){PIPELINE_NO_TIME, 20.0 + i % 2}, &score);
  }
  return scores;
}

int main(void) {
  PipelineScore score;
  Past past = {0};
  expect(steady(&past, MIN_STEPS + 1) == 0, "says nothing before it has seen some steps");
  expect(steady(&past, 11) == 11, "scores every reading after that");

  int32_t has_score = observe(&USUAL, &past, &(PipelineReading){PIPELINE_NO_TIME, 100.0}, &score);
  expect(has_score && score.is_anomaly, "a jump is an anomaly");
  expect(score.expected == 20.0 && score.lower < 20.0 && score.upper < 100.0, "the limits are around the last reading");
  expect(past.usual_step < 1.2, "an outlier does not become the norm");

  Past still = {0};
  int scores = 0;
  for (int i = 0; i < 50; i++) scores += observe(&USUAL, &still, &(PipelineReading){PIPELINE_NO_TIME, 7.0}, &score);
  expect(scores == 0, "a series that stands still has no scores");
  expect(steady(&still, 3) > 0, "until it moves");

  Past wild = {0};
  for (int i = 0; i < 9; i++) {
    observe(&USUAL, &wild, &(PipelineReading){PIPELINE_NO_TIME, i % 2 ? DBL_MAX : -DBL_MAX}, &score);
  }
  expect(isfinite(wild.usual_step), "only finite numbers are remembered");
  expect(strcmp(STAGE.name, "heartbeat") == 0, "the stage has its name");
  return failed != 0;
}

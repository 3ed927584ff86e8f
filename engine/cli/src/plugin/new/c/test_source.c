/* Tests of heartbeat.c: `make test`. */
#include "heartbeat.c"

static int failed = 0;

static void expect(int holds, const char *what) {
  printf("%s %s\n", holds ? "ok    " : "FAILED", what);
  failed += !holds;
}

/* What a call has found, as the engine would note it. */
typedef struct {
  uint64_t first, rows, position;
  int is_over;
} Noted;

static PipelineStatus note_rows(void *context, const PipelineBatch *batch) {
  Noted *noted = context;
  noted->first = batch->offsets[0];
  noted->rows = batch->n_offsets;
  batch->rows->release(batch->rows);
  return PIPELINE_OK;
}
static void note_position(void *context, const PipelinePosition *position) { ((Noted *)context)->position = position->offset; }
static void note_over(void *context) { ((Noted *)context)->is_over = 1; }

int main(void) {
  Options options = {.per_second = 1000.0, .count = 100};
  Noted noted = {0};
  const PipelineFound found = {.struct_size = sizeof found, .context = &noted, .rows = note_rows, .position = note_position, .over = note_over};
  const PipelinePosition from = {.struct_size = sizeof from, .offset = 90}, until = {.struct_size = sizeof until, .offset = 95};
  void *reader = NULL;
  expect(open_reader(&options, NULL, &from, &found, &reader, NULL) == PIPELINE_OK && noted.position == 90, "goes on where it was left");
  expect(read_rows(reader, &until, 0, &found, NULL) == PIPELINE_OK && noted.first == 90 && noted.rows == 5, "stops where it must");
  expect(noted.position == 95 && !noted.is_over, "says where it stands");
  read_rows(reader, &until, 0, &found, NULL);
  expect(noted.is_over, "says that this was all");

  noted = (Noted){0};
  while (!noted.is_over) read_rows(reader, NULL, 50, &found, NULL);
  expect(noted.position == 100, "gives the last row");
  close_reader(reader);

  Batch *batch = calloc(1, sizeof *batch), *again = calloc(1, sizeof *again);
  fill(&options, batch, 90, 10);
  fill(&options, again, 90, 10);
  expect(memcmp(batch, again, sizeof *batch) == 0, "the same rows are the same again");
  expect(batch->values[6] - batch->values[5] > 20.0, "row 96 jumps");
  free(batch), free(again);
  return failed != 0;
}

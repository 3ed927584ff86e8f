/*
 * `heartbeat`: readings of a machine that is made up, a wave with a jump now and then.
 *
 * To read something real, replace `fill` and `wait_for_rows`. What must stay: rows have rising offsets, a reader that
 * is opened at a position goes on there, and the same rows come again when they are read again.
 * What a plugin has to keep to stands in pipeline_plugin.h.
 */
#define _POSIX_C_SOURCE 200809L
#include "pipeline_plugin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROWS = 8192, N_COLUMNS = 3 };

/* 2025-01-01T00:00:00Z */
#define START_MICROS INT64_C(1735689600000000)

/* The options. */
typedef struct {
  double per_second;
  uint64_t count; /* UINT64_MAX: without an end */
} Options;

typedef struct {
  const Options *options;
  uint64_t next;
  uint64_t first; /* the row it was opened at, and when */
  double opened_at;
} Reader;

static PipelineStatus no_memory(PipelineError *error) {
  snprintf(error->message, error->message_size, "there is no memory left");
  return PIPELINE_FATAL;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The columns, for ever the same: nothing has to be released. */
static void nothing_to_release(struct ArrowSchema *schema) { schema->release = NULL; }

static void set_schema(struct ArrowSchema *schema) {
  static struct ArrowSchema fields[N_COLUMNS];
  static struct ArrowSchema *const children[N_COLUMNS] = {&fields[0], &fields[1], &fields[2]};
  const char *const names[N_COLUMNS] = {"machine", "value", "timestamp"};
  const char *const formats[N_COLUMNS] = {"u", "g", "tsu:UTC"};
  for (int i = 0; i < N_COLUMNS; i++) {
    fields[i] = (struct ArrowSchema){.format = formats[i], .name = names[i], .release = nothing_to_release};
  }
  *schema = (struct ArrowSchema){
      .format = "+s", .name = "", .n_children = N_COLUMNS, .children = (struct ArrowSchema **)children, .release = nothing_to_release};
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const PipelineOptions *given = build->options;
  double per_second = 200.0;
  int64_t count = -1;
  given->number(given->context, "per_second", &per_second);
  given->integer(given->context, "count", &count);
  if (!(per_second > 0.0 && per_second <= 1e6)) {
    snprintf(error->message, error->message_size, "`per_second` must be above 0 and at most a million");
    snprintf(error->option, error->option_size, "per_second");
    return PIPELINE_CONFIG;
  }
  if (build->once && count < 0) {
    snprintf(error->message, error->message_size, "a run with `--once` needs `count`: without it there is no last row");
    snprintf(error->option, error->option_size, "count");
    return PIPELINE_CONFIG;
  }
  Options *made = malloc(sizeof *made);
  if (made == NULL) return no_memory(error);
  *made = (Options){per_second, count < 0 ? UINT64_MAX : (uint64_t)count};
  built->stage = made;
  set_schema(&built->schema);
  return PIPELINE_OK;
}

static void destroy(void *source) { free(source); }

static void say_position(const Reader *reader, const PipelineFound *found) {
  found->position(found->context, &(PipelinePosition){.struct_size = sizeof(PipelinePosition), .offset = reader->next});
}

static PipelineStatus open_reader(void *source, const PipelinePartition *partition, const PipelinePosition *from, const PipelineFound *found, void **made, PipelineError *error) {
  (void)partition;
  Reader *reader = malloc(sizeof *reader);
  if (reader == NULL) return no_memory(error);
  uint64_t first = from == NULL ? 0 : from->offset;
  *reader = (Reader){.options = source, .next = first, .first = first, .opened_at = seconds()};
  say_position(reader, found);
  *made = reader;
  return PIPELINE_OK;
}

static void close_reader(void *reader) { free(reader); }

/* The buffers of a batch, in one piece. Rows and columns may be released one by one, from any thread: the last frees. */
typedef struct {
  int unreleased;
  struct ArrowArray columns[N_COLUMNS];
  struct ArrowArray *children[N_COLUMNS];
  const void *of_rows[1], *of_columns[N_COLUMNS][3];
  int32_t name_offsets[MAX_ROWS + 1];
  char names[5 * MAX_ROWS];
  double values[MAX_ROWS];
  int64_t times[MAX_ROWS];
} Batch;

static void release(struct ArrowArray *array) {
  for (int64_t i = 0; i < array->n_children; i++) {
    if (array->children[i]->release != NULL) array->children[i]->release(array->children[i]);
  }
  Batch *batch = array->private_data;
  array->release = NULL;
  if (__atomic_sub_fetch(&batch->unreleased, 1, __ATOMIC_ACQ_REL) == 0) free(batch);
}

/* What a row is, always the same. */
static void fill(const Options *options, Batch *batch, uint64_t first, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint64_t row = first + i;
    memcpy(batch->names + 5 * i, row % 2 == 0 ? "press" : "lathe", 5);
    batch->name_offsets[i + 1] = (int32_t)(5 * (i + 1));
    batch->values[i] = 20.0 + 2.0 * sin((double)row / 50.0) + 0.1 * (double)(row % 7) + (row % 97 == 96 ? 30.0 : 0.0);
    batch->times[i] = START_MICROS + (int64_t)(1e6 * (double)row / options->per_second);
  }
}

static PipelineStatus give(Reader *reader, size_t count, const PipelineFound *found, PipelineError *error) {
  Batch *batch = calloc(1, sizeof *batch);
  uint64_t *offsets = malloc(count * sizeof *offsets);
  if (batch == NULL || offsets == NULL) {
    free(batch), free(offsets);
    return no_memory(error);
  }
  batch->unreleased = 1 + N_COLUMNS;
  fill(reader->options, batch, reader->next, count);
  const void *buffers[N_COLUMNS][3] = {{NULL, batch->name_offsets, batch->names}, {NULL, batch->values}, {NULL, batch->times}};
  memcpy(batch->of_columns, buffers, sizeof buffers);
  for (int i = 0; i < N_COLUMNS; i++) {
    batch->columns[i] = (struct ArrowArray){
        .length = (int64_t)count, .n_buffers = i == 0 ? 3 : 2, .buffers = batch->of_columns[i], .private_data = batch, .release = release};
    batch->children[i] = &batch->columns[i];
  }
  struct ArrowArray rows = {.length = (int64_t)count, .n_buffers = 1, .buffers = batch->of_rows,
                            .n_children = N_COLUMNS, .children = batch->children, .private_data = batch, .release = release};
  for (size_t i = 0; i < count; i++) offsets[i] = reader->next + i;
  const PipelineBatch given = {.struct_size = sizeof given, .rows = &rows, .offsets = offsets, .n_offsets = count};
  PipelineStatus status = found->rows(found->context, &given);
  free(offsets);
  if (status == PIPELINE_OK) {
    reader->next += count;
    say_position(reader, found);
  }
  return status;
}

/* Waits until a row is due, but not for longer than the engine wants to; how many are due. */
static uint64_t wait_for_rows(const Reader *reader, uint32_t wait_ms) {
  double due_at = reader->opened_at + (double)(reader->next - reader->first + 1) / reader->options->per_second;
  double wait = fmin(due_at - seconds(), wait_ms / 1e3);
  if (wait > 0.0) {
    struct timespec pause = {(time_t)wait, (long)(fmod(wait, 1.0) * 1e9)};
    nanosleep(&pause, NULL);
  }
  uint64_t due = reader->first + (uint64_t)((seconds() - reader->opened_at) * reader->options->per_second);
  return due > reader->next ? due - reader->next : 0;
}

static PipelineStatus read_rows(void *opened, const PipelinePosition *until, uint32_t wait_ms, const PipelineFound *found, PipelineError *error) {
  Reader *reader = opened;
  uint64_t end = reader->options->count;
  if (until != NULL && until->offset < end) end = until->offset;
  if (end <= reader->next) {
    found->over(found->context);
    return PIPELINE_OK;
  }
  uint64_t left = end - reader->next;
  /* Rows up to `until` were there before: nothing has to be waited for. */
  uint64_t count = until != NULL ? left : wait_for_rows(reader, wait_ms);
  if (count > left) count = left;
  if (count > MAX_ROWS) count = MAX_ROWS;
  return count == 0 ? PIPELINE_OK : give(reader, (size_t)count, found, error);
}

static const PipelineStage STAGE = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_SOURCE,
    .name = "heartbeat",
    .example = "readings:\n  type: heartbeat\n  per_second: 200\n",
    .schema = "{\"description\": \"Gives readings of a machine that is made up: `machine`, `value` and `timestamp`.\","
              "\"type\": \"object\", \"properties\": {"
              "\"per_second\": {\"type\": \"number\", \"exclusiveMinimum\": 0, \"maximum\": 1000000, \"default\": 200,"
              " \"description\": \"How many rows come in a second.\"},"
              "\"count\": {\"type\": \"integer\", \"minimum\": 0,"
              " \"description\": \"After how many rows it ends. Default: never; a run with `--once` needs it.\"}}}",
    .build = build,
    .destroy = destroy,
    .open = open_reader,
    .read = read_rows,
    .close = close_reader,
};

static const PipelineStage *const STAGES[] = {&STAGE};

static const PipelinePlugin PLUGIN = {
    .abi_major = PIPELINE_ABI_MAJOR,
    .abi_minor = PIPELINE_ABI_MINOR,
    .struct_size = sizeof(PipelinePlugin),
    .name = "heartbeat",
    .version = "0.1.0",
    .stages = STAGES,
    .n_stages = 1,
};

const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
  return &PLUGIN;
}

/*
 * A source, a sink and an outbox sink that do one thing wrong: which, one -DCASE_… says. Without any they are right:
 * the source counts from 0 to 19, three rows at a time; the sink adds the numbers up and keeps its mark.
 */
#include "pipeline_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END 20
#define AT_ONCE 3

static PipelineStatus failed(PipelineError *error, PipelineStatus status, const char *words) {
  snprintf(error->message, error->message_size, "%s", words);
  return status;
}

static void wait_ms(uint32_t wait_ms) {
  struct timespec time = {wait_ms / 1000, (long)(wait_ms % 1000) * 1000000};
  nanosleep(&time, NULL);
}

#if defined(CASE_READ_HANGS) || defined(CASE_COMMIT_HANGS) || defined(CASE_ASSIGNMENT_HANGS)
static void hang(void) {
  for (;;) wait_ms(1000);
}
#endif

/* ---- schemas ---- */

static struct ArrowSchema columns[2];
static struct ArrowSchema *column_places[2] = {&columns[0], &columns[1]};

static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }

static struct ArrowSchema column(const char *name, const char *format) {
  struct ArrowSchema made;
  memset(&made, 0, sizeof made);
  made.name = name, made.format = format, made.flags = ARROW_FLAG_NULLABLE, made.release = release_schema;
  return made;
}

static void describe(struct ArrowSchema *schema) {
#if defined(RAW)
  const char *name = "payload", *format = "z";
#else
  const char *name = "number", *format = "l";
#endif
#if defined(CASE_PAYLOAD_NOT_BINARY)
  format = "u";
#elif defined(CASE_PAYLOAD_MISSING)
  name = "key";
#elif defined(CASE_PAYLOAD_OTHER)
  name = "topic";
#endif
  columns[0] = column(name, format);
  *schema = column("", "+s");
  schema->n_children = 1, schema->children = column_places;
#if defined(CASE_COLUMN_OF_ITSELF)
  columns[0] = column("number", "+s");
  columns[0].n_children = 1, columns[0].children = column_places;
#elif defined(CASE_COLUMN_WITH_A_DICTIONARY)
  columns[1] = column("", "u");
  columns[0].dictionary = &columns[1];
#elif defined(CASE_METADATA_WITHOUT_END)
  /* 2^31 - 1 pairs. */
  columns[0].metadata = "\xff\xff\xff\x7f\xff\xff\xff\x7f";
#endif
}

/* ---- rows: all that belongs to a batch is one piece of memory, which goes when it is released ---- */

struct Batch {
  struct ArrowArray column;
  struct ArrowArray *columns[1];
  const void *no_buffers[1];
  const void *buffers[3];
  uint64_t offsets[8193];
  int64_t numbers[8193];
  int32_t text_offsets[8194];
  char text[8193];
  char topic[8];
  const PipelineFound *found;
};

static void release_column(struct ArrowArray *array) { array->release = NULL; }

static void release_batch(struct ArrowArray *array) {
  struct Batch *batch = array->private_data;
#if defined(CASE_RELEASE_CALLS_BACK)
  batch->found->lag(batch->found->context, 7);
#endif
  array->release = NULL;
  memset(batch, 0xee, sizeof *batch);
  free(batch);
}

static struct Batch *new_batch(struct ArrowArray *array, uint64_t first, int64_t rows, const PipelineFound *found) {
  struct Batch *batch = calloc(1, sizeof *batch);
  for (int64_t row = 0; row < rows; row++) {
    batch->offsets[row] = first + (uint64_t)row;
    batch->numbers[row] = (int64_t)first + row;
    batch->text_offsets[row + 1] = (int32_t)row + 1;
    batch->text[row] = (char)('a' + (first + (uint64_t)row) % 26);
  }
  strcpy(batch->topic, "letters");
  batch->found = found;
  struct ArrowArray *column = &batch->column;
  column->length = rows, column->buffers = batch->buffers, column->release = release_column;
#if defined(RAW)
  column->n_buffers = 3, batch->buffers[1] = batch->text_offsets, batch->buffers[2] = batch->text;
#else
  column->n_buffers = 2, batch->buffers[1] = batch->numbers;
#endif
  batch->columns[0] = column;
  memset(array, 0, sizeof *array);
  array->length = rows, array->n_buffers = 1, array->buffers = batch->no_buffers;
  array->n_children = 1, array->children = batch->columns;
  array->release = release_batch, array->private_data = batch;
  return batch;
}

/* ---- the source ---- */

struct Source {
  uint32_t n_asked;
  int is_gained;
  uint32_t n_open, n_logged, n_forgotten, n_released;
};

struct Reader {
  struct Source *source;
  uint64_t next;
};

static PipelineStatus build_source(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type, (void)build, (void)error;
  built->stage = calloc(1, sizeof(struct Source));
  describe(&built->schema);
#if defined(RAW)
  built->flags = PIPELINE_RAW;
#endif
#if defined(CASE_FLAGS_UNKNOWN)
  built->flags |= 64;
#endif
  return PIPELINE_OK;
}

static void destroy(void *stage) { free(stage); }

static PipelineStatus partition_count(void *stage, uint32_t *count, PipelineError *error) {
  (void)error;
  /* For the test: how often it was asked for changes. */
  *count = ((struct Source *)stage)->n_asked;
  return PIPELINE_OK;
}

static PipelineStatus assignment(void *stage, uint32_t wait, const PipelineAssignment *to, PipelineError *error) {
  struct Source *source = stage;
  PipelinePartition partition = {sizeof partition, 0, "0"};
  source->n_asked++;
  (void)error, (void)wait_ms, (void)failed;
#if defined(CASE_ASSIGNMENT_IDLE)
  return PIPELINE_OK;
#elif defined(CASE_ASSIGNMENT_HANGS)
  hang();
#elif defined(CASE_PARTITION_NULL)
  to->gained(to->context, NULL);
  return PIPELINE_OK;
#elif defined(CASE_PARTITION_WITHOUT_NAME)
  partition.name = "";
#elif defined(CASE_PARTITION_NAME_NULL)
  partition.name = NULL;
#elif defined(CASE_PARTITION_NOT_UTF8)
  partition.name = "\xff";
#elif defined(CASE_PARTITION_TOO_SMALL)
  partition.struct_size = 8;
#elif defined(CASE_PARTITION_TWICE)
  source->is_gained = 0;
#elif defined(CASE_PARTITION_TWICE_AT_ONCE)
  to->gained(to->context, &partition);
#elif defined(CASE_ASSIGNMENT_STATUS_77)
  return 77;
#elif defined(CASE_ASSIGNMENT_WITHOUT_WORDS)
  return PIPELINE_LOST;
#elif defined(CASE_ASSIGNMENT_RETRY_PAUSE)
  error->retry_after_ms = 1500;
  return failed(error, PIPELINE_TRANSIENT, "the broker is busy");
#endif
  if (source->is_gained == 0) {
    to->gained(to->context, &partition);
  } else if (source->is_gained == 1) {
    to->final(to->context);
  } else {
    wait_ms(wait);
  }
  source->is_gained++;
  return PIPELINE_OK;
}

static PipelineStatus open_partition(void *stage, const PipelinePartition *partition, const PipelinePosition *from, const PipelineFound *found, void **reader, PipelineError *error) {
  (void)partition, (void)error;
  struct Source *source = stage;
  PipelinePosition start = {sizeof start, from == NULL ? 0 : from->offset, "begun"};
#if defined(CASE_OPEN_POSITION_NULL)
  found->position(found->context, NULL);
#elif defined(CASE_OPEN_DETAIL_NOT_UTF8)
  start.detail = "\xff";
#elif defined(CASE_OPEN_POSITION_TOO_SMALL)
  start.struct_size = 4;
#elif defined(CASE_OPEN_BEFORE)
  start.offset = 0;
#elif defined(CASE_OPEN_GIVES_ROWS)
  struct ArrowArray rows;
  struct Batch *made = new_batch(&rows, 0, AT_ONCE, found);
  PipelineBatch batch = {sizeof batch, &rows, made->offsets, AT_ONCE, made->topic, 0, NULL, 0};
  found->rows(found->context, &batch);
#elif defined(CASE_OPEN_FAILS)
  return failed(error, PIPELINE_TRANSIENT, "the file is not there yet");
#endif
#if !defined(CASE_OPEN_WITHOUT_POSITION)
  found->position(found->context, &start);
#endif
#if !defined(CASE_OPEN_NULL)
  struct Reader *opened = malloc(sizeof *opened);
  opened->source = source, opened->next = start.offset;
  source->n_open++;
  *reader = opened;
#endif
  (void)source, (void)reader, (void)found;
  return PIPELINE_OK;
}

static void close_reader(void *reader) {
  ((struct Reader *)reader)->source->n_open--;
  free(reader);
}

static PipelineStatus read_rows(void *opened, const PipelinePosition *until, uint32_t wait, const PipelineFound *found, PipelineError *error) {
  struct Reader *reader = opened;
  uint64_t limit = until == NULL || END < until->offset ? END : until->offset;
  int64_t rows = AT_ONCE;
  (void)wait, (void)error;
#if defined(CASE_TOO_MANY_ROWS)
  limit = rows = 8193;
#elif defined(CASE_BEYOND_UNTIL)
  limit = END;
#elif defined(CASE_READ_STATUS_77)
  return 77;
#elif defined(CASE_READ_WITHOUT_WORDS)
  return PIPELINE_FATAL;
#elif defined(CASE_READ_RETRY_PAUSE)
  error->retry_after_ms = 250;
  return failed(error, PIPELINE_TRANSIENT, "the broker is busy");
#elif defined(CASE_READ_HANGS)
  hang();
#elif defined(CASE_READ_IDLE)
  reader->source->n_asked++;
  return PIPELINE_OK;
#elif defined(CASE_BATCH_NULL)
  found->rows(found->context, NULL);
  return PIPELINE_OK;
#elif defined(CASE_POSITION_BACK_WITHOUT_ROWS)
  PipelinePosition back = {sizeof back, 3, NULL};
  found->position(found->context, &back);
  return PIPELINE_OK;
#elif defined(CASE_SLOW)
  /* Longer than the test waits, shorter than the engine does. */
  wait_ms(wait / 4);
#endif
  if (limit <= reader->next) {
    found->lag(found->context, END - reader->next);
    found->over(found->context);
    return PIPELINE_OK;
  }
  if ((int64_t)(limit - reader->next) < rows) rows = (int64_t)(limit - reader->next);
  uint64_t first = reader->next;
#if defined(CASE_OFFSET_BELOW)
  first = 3;
#endif
  struct ArrowArray array;
  struct Batch *made = new_batch(&array, first, rows, found);
  PipelineBatch batch = {sizeof batch, &array, made->offsets, (size_t)rows, made->topic, 4, NULL, 0};
  PipelinePosition after = {sizeof after, first + (uint64_t)rows, NULL};
#if defined(CASE_OFFSETS_FALL)
  made->offsets[1] = 2, made->offsets[2] = 1;
#elif defined(CASE_OFFSETS_SAME)
  made->offsets[1] = 0;
#elif defined(CASE_TOO_FEW_OFFSETS)
  batch.n_offsets = 2;
#elif defined(CASE_TOO_MANY_OFFSETS)
  batch.n_offsets = SIZE_MAX;
#elif defined(CASE_OFFSETS_NULL)
  batch.offsets = NULL;
#elif defined(CASE_OFFSETS_AT_AN_ODD_ADDRESS)
  memmove((char *)made->numbers + 1, made->offsets, 24);
  batch.offsets = (const void *)((char *)made->numbers + 1);
#elif defined(CASE_TOPIC_NULL)
  batch.topic = NULL;
#elif defined(CASE_TOPIC_NOT_UTF8)
  batch.topic = "\xff";
#elif defined(CASE_HEADER_TOO_LONG)
  batch.header = (const uint8_t *)made->text, batch.header_length = SIZE_MAX;
#elif defined(CASE_ROWS_NULL)
  batch.rows = NULL;
#elif defined(CASE_ROWS_AT_AN_ODD_ADDRESS)
  batch.rows = (struct ArrowArray *)((char *)&array + 1);
#elif defined(CASE_BATCH_TOO_SMALL)
  batch.struct_size = 16;
#elif defined(CASE_POSITION_BACK)
  after.offset = 1;
#elif defined(CASE_NO_COLUMNS) || defined(CASE_RELEASE_CALLS_BACK)
  array.n_children = 0;
#elif defined(CASE_NUMBERS_TOO_SHORT)
  made->column.length = 1;
#elif defined(CASE_TWO_BUFFERS_OF_PAYLOADS)
  made->column.n_buffers = 2;
#elif defined(CASE_EMPTY_BATCH)
  /* Its offsets and its topic go with it, at once: nothing of it is kept. */
  array.length = 0, made->column.length = 0, batch.n_offsets = 0, after.offset = first;
  if (reader->source->n_asked++ < 3) {
    found->rows(found->context, &batch);
    found->position(found->context, &after);
    return PIPELINE_OK;
  }
  array.length = rows, made->column.length = rows, batch.n_offsets = (size_t)rows, after.offset = first + (uint64_t)rows;
#elif defined(CASE_CONTEXT_NULL)
  PipelineStatus refused = found->rows(NULL, &batch);
  array.release(&array);
  return refused;
#elif defined(CASE_GAP)
  after.offset = 10;
#endif
  PipelineStatus status = found->rows(found->context, &batch);
#if defined(CASE_ROWS_AT_AN_ODD_ADDRESS) || defined(CASE_ROWS_NULL) || defined(CASE_BATCH_TOO_SMALL)
  /* Not taken: they could not be found. */
  array.release(&array);
#elif defined(CASE_ROWS_TWICE)
  made = new_batch(&array, first + AT_ONCE, rows, found);
  batch.offsets = made->offsets, batch.topic = made->topic;
  found->rows(found->context, &batch);
#endif
#if !defined(CASE_NO_POSITION)
  found->position(found->context, &after);
#endif
  found->lag(found->context, END - after.offset);
  reader->next = after.offset;
  (void)status;
  /* Whatever became of it: an engine that trusts this status loses rows. */
  return PIPELINE_OK;
}

static PipelineStatus logged(void *stage, const PipelinePartition *partition, const PipelinePosition *through, PipelineError *error) {
  (void)partition, (void)through, (void)error;
  ((struct Source *)stage)->n_logged++;
  return PIPELINE_OK;
}

static PipelineStatus forget(void *stage, const PipelinePartition *partition, const PipelinePosition *through, PipelineError *error) {
  (void)partition, (void)through, (void)error;
  ((struct Source *)stage)->n_forgotten++;
  return PIPELINE_OK;
}

static PipelineStatus release(void *stage, const PipelinePartition *partition, PipelineError *error) {
  (void)partition, (void)error;
  ((struct Source *)stage)->n_released++;
  return PIPELINE_OK;
}

static PipelineStatus check_source(void *stage, const PipelineFindings *to, PipelineError *error) {
  struct Source *source = stage;
  char words[128];
  snprintf(words, sizeof words, "%u open, %u logged, %u forgotten, %u released", source->n_open, source->n_logged, source->n_forgotten, source->n_released);
  to->found(to->context, PIPELINE_DATA, words, "path");
#if defined(CASE_CHECK_SAYS_NONSENSE)
  to->found(to->context, 77, NULL, NULL);
  to->found(to->context, PIPELINE_CONFIG, "\xff", NULL);
#elif defined(CASE_CHECK_FAILS)
  return failed(error, PIPELINE_TRANSIENT, "nobody answers");
#endif
  (void)error;
  return PIPELINE_OK;
}

/* ---- the sink ---- */

struct Sink {
  int has_mark;
  PipelineMark mark;
  char texts[5][256];
  int64_t n_rows, sum;
  /* Rows that are kept, for the case that leaks. */
  struct ArrowArray *kept[2000];
  int n_kept;
};

static PipelineStatus build_sink(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type, (void)build, (void)error;
  built->stage = calloc(1, sizeof(struct Sink));
  built->delivery = PIPELINE_TRANSACTIONAL;
#if defined(CASE_DELIVERY_ZERO)
  built->delivery = 0;
#elif defined(CASE_DELIVERY_9)
  built->delivery = 9;
#elif defined(CASE_OUTBOX_WITHOUT_DELIVER)
  built->delivery = PIPELINE_OUTBOX;
#endif
  return PIPELINE_OK;
}

static void destroy_sink(void *stage) {
  struct Sink *sink = stage;
  for (int i = 0; i < sink->n_kept; i++) {
    sink->kept[i]->release(sink->kept[i]);
    free(sink->kept[i]);
  }
  free(sink);
}

static void keep_mark(struct Sink *sink, const PipelineMark *mark) {
  const char *texts[5] = {mark->pipeline, mark->sink, mark->task, mark->state_id, mark->positions};
  for (int i = 0; i < 5; i++) snprintf(sink->texts[i], sizeof sink->texts[i], "%s", texts[i]);
  PipelineMark kept = {sizeof kept, sink->texts[0], sink->texts[1], sink->texts[2], sink->texts[3], mark->generation, mark->epoch, sink->texts[4], NULL};
  sink->mark = kept, sink->has_mark = 1;
}

static PipelineStatus claim(void *stage, const PipelineOwner *owner, const PipelineClaim *to, PipelineError *error) {
  struct Sink *sink = stage;
  (void)error, (void)owner;
  PipelineMark mark = {sizeof mark, "p", "s", "t", "id", 1, 1, "{}", NULL};
#if defined(CASE_MARK_NULL)
  to->at(to->context, NULL);
#elif defined(CASE_MARK_TOO_SMALL)
  mark.struct_size = 40;
#elif defined(CASE_MARK_WITHOUT_STATE_ID)
  mark.state_id = NULL;
#elif defined(CASE_MARK_NOT_UTF8)
  mark.task = "\xff";
#elif defined(CASE_MARK_DETAIL_NOT_UTF8)
  mark.detail = "\xff";
#elif defined(CASE_MARK_TWICE)
  to->at(to->context, &mark);
#elif defined(CASE_CLAIM_LOST)
  return failed(error, PIPELINE_LOST, "somebody else has the task");
#else
  (void)mark;
  if (!sink->has_mark) return PIPELINE_OK;
  mark = sink->mark;
#endif
  to->at(to->context, &mark);
  (void)sink;
  return PIPELINE_OK;
}

static PipelineStatus commit(void *stage, const PipelineEpoch *const *epochs, size_t n_epochs, const PipelineCommit *to, PipelineError *error) {
  struct Sink *sink = stage;
  char id[20];
  (void)error, (void)to, (void)id;
#if defined(CASE_REFUSE_NO_EPOCH)
  to->refuse(to->context, 7, 0, 0, "it is too cold");
#elif defined(CASE_REFUSE_NO_ROWS)
  to->refuse(to->context, 0, SIZE_MAX, 0, "it is too cold");
#elif defined(CASE_REFUSE_NO_ROW)
  to->refuse(to->context, 0, 0, 99, "it is too cold");
#elif defined(CASE_REFUSE_TWICE)
  to->refuse(to->context, 0, 0, 1, "it is too cold");
  to->refuse(to->context, 0, 0, 0, NULL);
  to->refuse(to->context, 0, 0, 1, "\xff");
  return PIPELINE_OK;
#elif defined(CASE_DETAIL_NO_EPOCH)
  to->detail(to->context, 7, "12");
#elif defined(CASE_DETAIL_NOT_UTF8)
  to->detail(to->context, 0, "\xff");
#elif defined(CASE_ROW_ID_OUT_OF_RANGE)
  if (to->row_id(to->context, 0, 0, 99, id) != 0) return failed(error, PIPELINE_FATAL, "there is such a row");
#elif defined(CASE_COMMIT_CONTEXT_NULL)
  to->detail(NULL, 0, "12");
#elif defined(CASE_COMMIT_STATUS_77)
  return 77;
#elif defined(CASE_COMMIT_WITHOUT_WORDS)
  return PIPELINE_FATAL;
#elif defined(CASE_COMMIT_RETRY_PAUSE)
  error->retry_after_ms = 1500;
  return failed(error, PIPELINE_TRANSIENT, "the table is locked");
#elif defined(CASE_COMMIT_HANGS)
  hang();
#elif defined(CASE_KEEPS_ROWS)
  struct ArrowArray *kept = malloc(sizeof *kept), *given = epochs[0]->rows[0]->rows;
  *kept = *given, given->release = NULL;
  sink->kept[sink->n_kept++] = kept;
  return PIPELINE_OK;
#elif defined(CASE_RELEASES_TWICE)
  struct ArrowArray first = *epochs[0]->rows[0]->rows, second = first;
  epochs[0]->rows[0]->rows->release = NULL;
  first.release(&first);
  second.release(&second);
  return PIPELINE_OK;
#endif
  for (size_t e = 0; e < n_epochs; e++) {
    const PipelineEpoch *epoch = epochs[e];
    if (sink->has_mark && epoch->mark->epoch <= sink->mark.epoch) return failed(error, PIPELINE_LOST, "the mark is ahead");
    for (size_t r = 0; r < epoch->n_rows; r++) {
      const struct ArrowArray *rows = epoch->rows[r]->rows;
      const int64_t *numbers = rows->children[0]->buffers[1];
      for (int64_t row = 0; row < rows->length; row++) sink->sum += numbers[rows->offset + rows->children[0]->offset + row];
      sink->n_rows += rows->length;
      if (to->row_id(to->context, e, r, 0, id) != 1 || strlen(id) != 19) return failed(error, PIPELINE_FATAL, "a row has no id");
    }
    keep_mark(sink, epoch->mark);
    char detail[32];
    snprintf(detail, sizeof detail, "sum %lld", (long long)sink->sum);
    to->detail(to->context, e, detail);
  }
  return PIPELINE_OK;
}

static PipelineStatus check_sink(void *stage, const PipelineFindings *to, PipelineError *error) {
  struct Sink *sink = stage;
  (void)error;
  char words[64];
  snprintf(words, sizeof words, "%lld rows, their sum is %lld", (long long)sink->n_rows, (long long)sink->sum);
  to->found(to->context, PIPELINE_DATA, words, NULL);
  return PIPELINE_OK;
}

/* ---- the outbox sink ---- */

static PipelineStatus build_outbox(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type, (void)build, (void)error;
  built->stage = calloc(1, sizeof(struct Sink));
  built->delivery = PIPELINE_OUTBOX;
  built->at_most_every_ms = 250;
#if defined(CASE_WHEN_FULL_7)
  built->when_full = 7;
#elif defined(CASE_EPOCHS_WITHOUT_COMMIT)
  built->delivery = PIPELINE_TRANSACTIONAL;
#endif
  return PIPELINE_OK;
}

static PipelineStatus deliver(void *stage, const PipelineAlert *alert, PipelineError *error) {
  struct Sink *sink = stage;
#if defined(CASE_DELIVER_STATUS_77)
  return 77;
#elif defined(CASE_DELIVER_WITHOUT_WORDS)
  return PIPELINE_DATA;
#elif defined(CASE_DELIVER_RETRY_PAUSE)
  error->retry_after_ms = 60000;
  return failed(error, PIPELINE_TRANSIENT, "too many requests");
#endif
  if (strcmp(alert->json, "{\"number\":7}") != 0 || strcmp(alert->id, "a-7") != 0) return failed(error, PIPELINE_FATAL, alert->json);
  sink->n_rows++;
  return PIPELINE_OK;
}

static PipelineStage source = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_SOURCE,
    .name = "numbers",
    .example = "readings: { type: numbers }",
    .schema = "{\"description\": \"Counts.\", \"properties\": {}}",
    .build = build_source,
    .destroy = destroy,
    .check = check_source,
    .partition_count = partition_count,
    .assignment = assignment,
    .open = open_partition,
    .read = read_rows,
    .close = close_reader,
    .logged = logged,
    .forget = forget,
    .release = release,
};
static PipelineStage sink = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_SINK,
    .name = "total",
    .example = "sums: { type: total, inputs: [readings] }",
    .schema = "{\"description\": \"Adds up.\", \"properties\": {}}",
    .build = build_sink,
    .destroy = destroy_sink,
    .check = check_sink,
    .claim = claim,
    .commit = commit,
};
static PipelineStage outbox = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_SINK,
    .name = "bell",
    .example = "alerts: { type: bell, inputs: [readings] }",
    .schema = "{\"description\": \"Rings.\", \"properties\": {}}",
    .build = build_outbox,
    .destroy = destroy_sink,
    .check = check_sink,
    .deliver = deliver,
};
static const PipelineStage *const stages[3] = {&source, &sink, &outbox};
static const PipelinePlugin plugin = {PIPELINE_ABI_MAJOR, PIPELINE_ABI_MINOR, sizeof(PipelinePlugin), "hostile_io", "0.1", stages, 3};

PIPELINE_EXPORT const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
#if defined(CASE_NO_OPEN)
  source.open = NULL;
#elif defined(CASE_NO_READ)
  source.read = NULL;
#elif defined(CASE_SINK_WITHOUT_COMMIT)
  sink.commit = NULL;
#elif defined(CASE_WITHOUT_ASSIGNMENT)
  source.assignment = NULL;
#endif
  return &plugin;
}

/*
 * A plugin that does one thing wrong: which, one -DCASE_… says. Without any it gives each batch as it came.
 * It spoils what the engine has exported in place, so that the engine's own release still works.
 */
#include "pipeline_plugin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define COLUMNS 4
#define ROWS 8

static struct ArrowSchema columns[COLUMNS];
static struct ArrowSchema *column_places[COLUMNS];

static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }

static struct ArrowSchema column(const char *name, const char *format, int64_t flags) {
  struct ArrowSchema made;
  memset(&made, 0, sizeof made);
  made.name = name;
  made.format = format;
  made.flags = flags;
  made.release = release_schema;
  return made;
}

/* The columns of the rows that the test gives. */
static void describe(struct ArrowSchema *schema) {
  const char *number = "g", *metric = "metric_type";
  int64_t nullable = ARROW_FLAG_NULLABLE;
#if defined(CASE_INT32)
  number = "i";
#elif defined(CASE_NO_FORMAT)
  number = NULL;
#elif defined(CASE_FORMAT_OF_NOTHING)
  number = "?!";
#elif defined(CASE_COLUMN_NAME_NOT_UTF8)
  metric = "\xff";
#elif defined(CASE_TWO_COLUMNS_OF_ONE_NAME)
  metric = "sensor_id";
#elif defined(CASE_NULLS_WHERE_NONE_MAY_BE)
  nullable = 0;
#endif
  columns[0] = column("sensor_id", "u", 0);
  columns[1] = column(metric, "u", 0);
  columns[2] = column("value", number, nullable);
  columns[3] = column("timestamp", "tsu:UTC", ARROW_FLAG_NULLABLE);
  for (int i = 0; i < COLUMNS; i++) column_places[i] = &columns[i];
  *schema = column("", "+s", 0);
  schema->n_children = COLUMNS;
  schema->children = column_places;
#if defined(CASE_SCHEMA_IS_NO_STRUCT)
  *schema = column("", "g", 0);
#elif defined(CASE_MINUS_ONE_COLUMNS)
  schema->n_children = -1;
#elif defined(CASE_SCHEMA_WITHOUT_CHILDREN)
  schema->children = NULL;
#endif
}

static PipelineStatus failed(PipelineError *error, PipelineStatus status, const char *words, const char *option) {
  strncpy(error->message, words, error->message_size - 1);
  strncpy(error->option, option, error->option_size - 1);
  return status;
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type, (void)build;
#if defined(CASE_BUILD_WITHOUT_WORDS)
  return PIPELINE_CONFIG;
#elif defined(CASE_BUILD_WITH_WORDS)
  return failed(error, PIPELINE_CONFIG, "`window` is 1, it must be at least 2", "window");
#elif defined(CASE_WORDS_NOT_UTF8)
  return failed(error, PIPELINE_FATAL, "caf\xe9 is closed", "");
#elif defined(CASE_WORDS_WITHOUT_END)
  memset(error->message, 'x', error->message_size);
  memset(error->option, 'y', error->option_size);
  return PIPELINE_TRANSIENT;
#elif defined(CASE_STATUS_77)
  return 77;
#elif defined(CASE_NO_SCHEMA)
  return failed(error, PIPELINE_OK, "", "");
#endif
#if defined(CASE_STATE_OF_ANOTHER_SIZE)
  for (size_t i = 0; i < build->n_state; i++)
    if (build->state[i].value_length != 1) return failed(error, PIPELINE_FATAL, "the saved state has another size: start it with `--cold-start`", "");
#endif
  (void)failed, (void)error;
  describe(&built->schema);
  return PIPELINE_OK;
}

/* Memory that was there and is not any more, or that nobody may read. */
static const void *gone(size_t size, int is_reserved) {
  char *memory = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!is_reserved) munmap(memory, size);
  return memory;
}

/* Origins that lie beside the rows, in memory that goes with them. */
struct Together {
  uint32_t origins[ROWS];
  struct ArrowArray given;
};

static void release_together(struct ArrowArray *array) {
  struct Together *together = array->private_data;
  together->given.release(&together->given);
  memset(together->origins, 0xee, sizeof together->origins);
  free(together);
  array->release = NULL;
}

/* A buffer of a column is another one from here on. */
static void put_buffer(struct ArrowArray *array, int number, const void *bytes) { array->buffers[number] = bytes; }

static PipelineStatus process(void *stage, uint32_t input, struct ArrowArray *rows, const PipelineOutput *output, PipelineError *error) {
  (void)stage, (void)input, (void)error;
  static struct ArrowArray *children[COLUMNS];
  static int64_t room[1024]; /* aligned, and all 0 */
  uint32_t origins[ROWS] = {0, 1, 2, 3, 4, 5, 6, 7};
  size_t n_origins = 0;
  struct ArrowArray *sensor = rows->children[0], *value = rows->children[2];
  memcpy(children, rows->children, sizeof children);
#if defined(CASE_FEWER_ROWS)
  rows->length = ROWS - 1;
#elif defined(CASE_ORIGIN_OUT_OF_RANGE)
  origins[5] = ROWS, n_origins = ROWS;
#elif defined(CASE_TOO_FEW_ORIGINS)
  n_origins = 3;
#elif defined(CASE_THREE_COLUMNS)
  rows->n_children = 3;
#elif defined(CASE_COLUMN_NULL)
  children[1] = NULL, rows->children = children;
#elif defined(CASE_COLUMN_RELEASED)
  static struct ArrowArray released;
  children[1] = &released, rows->children = children;
#elif defined(CASE_COLUMN_TOO_SHORT)
  sensor->length = 1;
#elif defined(CASE_NEGATIVE_LENGTH)
  rows->length = -1;
#elif defined(CASE_LENGTH_THAT_OVERFLOWS)
  rows->length = INT64_MAX, rows->offset = INT64_MAX;
#elif defined(CASE_NEGATIVE_COLUMN_OFFSET)
  sensor->offset = -1;
#elif defined(CASE_ROWS_NULL_AS_A_WHOLE)
  put_buffer(rows, 0, room), rows->null_count = 1;
#elif defined(CASE_NO_VALUES)
  put_buffer(value, 1, NULL);
#elif defined(CASE_TOO_MANY_NULLS)
  value->null_count = ROWS + 1;
#elif defined(CASE_NULLS_WHERE_NONE_MAY_BE)
  put_buffer(value, 0, room), value->null_count = ROWS;
#elif defined(CASE_NOT_ALIGNED)
  put_buffer(value, 1, (const char *)room + 1);
#elif defined(CASE_TWO_BUFFERS_OF_TEXT)
  sensor->n_buffers = 2;
#elif defined(CASE_OFFSETS_FALL)
  const int32_t offsets[ROWS + 1] = {0, 5, 3, 6, 6, 6, 6, 6, 6};
  memcpy(room, offsets, sizeof offsets);
  put_buffer(sensor, 1, room);
#elif defined(CASE_OFFSETS_FAR_OUT)
  const int32_t offsets[ROWS + 1] = {0, 1, 1, 1, 1, 1, 1, 1, INT32_MAX};
  memcpy(room, offsets, sizeof offsets);
  put_buffer(sensor, 1, room);
#elif defined(CASE_TEXT_NOT_MAPPED) || defined(CASE_TEXT_NOT_READABLE)
  const int32_t offsets[ROWS + 1] = {0, 1, 1, 1, 1, 1, 1, 1, 1 << 20};
  memcpy(room, offsets, sizeof offsets);
  put_buffer(sensor, 1, room);
#if defined(CASE_TEXT_NOT_MAPPED)
  put_buffer(sensor, 2, gone(1 << 20, 0));
#else
  put_buffer(sensor, 2, gone(1 << 20, 1));
#endif
#elif defined(CASE_VALUES_NOT_MAPPED)
  value->length = 20000;
  put_buffer(value, 1, gone(160000, 0));
#elif defined(CASE_OFFSETS_NOT_MAPPED)
  sensor->length = 20000;
  put_buffer(sensor, 1, gone(80004, 0));
#elif defined(CASE_OFFSET_WITHOUT_ROWS)
  /* No rows, but behind others that there are not. */
  rows->length = 0, sensor->length = 0, sensor->offset = 30000, value->length = 0, value->offset = 30000;
  put_buffer(sensor, 1, gone(120004, 0));
#elif defined(CASE_COLUMN_AT_AN_ODD_ADDRESS)
  children[1] = (struct ArrowArray *)((char *)room + 1), rows->children = children;
#elif defined(CASE_ORIGINS_AT_AN_ODD_ADDRESS)
  memcpy((char *)room + 1, origins, sizeof origins);
  output->emit(output->context, rows, (const void *)((char *)room + 1), ROWS);
  return PIPELINE_OK;
#elif defined(CASE_ORIGINS_GO_WITH_THE_ROWS) || defined(CASE_ORIGINS_GO_WITH_ROWS_THAT_ARE_WRONG)
  struct Together *together = malloc(sizeof *together);
  memcpy(together->origins, origins, sizeof origins);
  struct ArrowArray both = *rows;
  together->given = *rows, rows->release = NULL;
  both.private_data = together, both.release = release_together;
#if defined(CASE_ORIGINS_GO_WITH_ROWS_THAT_ARE_WRONG)
  both.n_children = 3;
#endif
  output->emit(output->context, &both, together->origins, ROWS);
  return PIPELINE_OK;
#elif defined(CASE_RELEASES_TWICE)
  struct ArrowArray first = *rows, second = *rows;
  rows->release = NULL;
  first.release(&first);
  second.release(&second);
  output->filtered(output->context, ROWS);
  return PIPELINE_OK;
#elif defined(CASE_KEEPS_ROWS)
  /* Never released. */
  static int n_kept;
  static struct ArrowArray kept[20000];
  if (n_kept != 0 && kept[n_kept - 1].release == NULL) return PIPELINE_FATAL;
  kept[n_kept++] = *rows, rows->release = NULL;
  output->filtered(output->context, ROWS);
  return PIPELINE_OK;
#elif defined(CASE_COUNTS_OVERFLOW)
  output->filtered(output->context, UINT64_MAX);
  output->filtered(output->context, ROWS + 1);
  return PIPELINE_OK;
#elif defined(CASE_CREATES_TOO_MUCH)
  output->created(output->context, (uint64_t)1 << 40);
  output->created(output->context, 1);
  return PIPELINE_OK;
#elif defined(CASE_TEXT_NOT_UTF8)
  memset(room, 0xff, sizeof room);
  put_buffer(sensor, 2, room);
#elif defined(CASE_RELEASED)
  rows->release(rows);
#elif defined(CASE_TWICE)
  output->emit(output->context, rows, NULL, 0);
#elif defined(CASE_NULL_ROWS)
  rows = NULL;
#elif defined(CASE_CONTEXT_NULL)
  return output->emit(NULL, rows, NULL, 0);
#elif defined(CASE_REJECT_OUT_OF_RANGE)
  output->reject(output->context, ROWS, "it is too cold");
  return PIPELINE_OK;
#elif defined(CASE_LATE_OUT_OF_RANGE)
  output->late(output->context, UINT32_MAX);
  return PIPELINE_OK;
#elif defined(CASE_REJECT_WITHOUT_WORDS)
  output->reject(output->context, 2, NULL);
  output->reject(output->context, 3, "");
  output->reject(output->context, 4, "\xff");
  return PIPELINE_OK;
#elif defined(CASE_DATA)
  return failed(error, PIPELINE_DATA, "these rows are odd", "");
#elif defined(CASE_CREATED_TOO_SHORT)
  sensor->length = 1;
  output->emit_created(output->context, rows);
  return PIPELINE_OK;
#endif
  (void)sensor, (void)value, (void)room, (void)children, (void)put_buffer, (void)gone, (void)release_together;
  output->emit(output->context, rows, n_origins == 0 ? NULL : origins, n_origins);
  /* Whatever became of it: an engine that trusts this status loses rows. */
  return PIPELINE_OK;
}

static PipelineStatus save(void *stage, const PipelineState *state, PipelineError *error) {
  (void)stage, (void)error;
  const uint8_t key[1] = {7};
  (void)key;
#if defined(CASE_VALUE_TOO_LARGE)
  state->put(state->context, key, 1, key, ((size_t)64 << 20) + 1);
#elif defined(CASE_VALUE_OF_1_GB)
  state->put(state->context, key, 1, key, (size_t)1 << 30);
#elif defined(CASE_VALUES_OF_1_GB)
  /* 32 of 32 MiB are as much as may be, with their keys they are more. */
  uint8_t *value = calloc(1, (size_t)32 << 20);
  for (int i = 0; i < 33; i++) state->put(state->context, key, 1, value, (size_t)32 << 20);
  free(value);
#elif defined(CASE_KEY_NULL)
  state->put(state->context, NULL, 1, key, 1);
#elif defined(CASE_VALUE_NULL)
  state->put(state->context, key, 1, NULL, 1);
#elif defined(CASE_FORGETS_NULL)
  state->forget(state->context, NULL, 1);
#elif defined(CASE_NULL_OF_NO_BYTES)
  state->put(state->context, NULL, 0, NULL, 0);
#else
  state->put(state->context, key, 1, key, 1);
#endif
  return PIPELINE_OK;
}

static uint64_t held(void *stage) {
  (void)stage;
#if defined(CASE_HOLDS_TOO_MUCH)
  return UINT64_MAX;
#else
  return 0;
#endif
}

#if defined(CASE_MISSING_SYMBOL)
extern PipelineStatus pipeline_function_of_nobody(void);
#define PROCESS pipeline_function_of_nobody() == 0 ? process : NULL
#endif

static const PipelineStage stage = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_TRANSFORM,
    .name = "hostile",
    .example = "hostile:\n  type: hostile\n",
    .schema = "{\"description\": \"Does one thing wrong.\", \"properties\": {}}",
    .build = build,
    .process = process,
    .save = save,
    .held = held,
};
static PipelineStage spoilt;
static const PipelineStage *stages[2] = {&spoilt, &spoilt};
static PipelinePlugin plugin = {PIPELINE_ABI_MAJOR, PIPELINE_ABI_MINOR, sizeof(PipelinePlugin), "hostile", "0.1", stages, 1};

#if defined(CASE_NO_SYMBOL)
#define pipeline_plugin another_name
PIPELINE_EXPORT const PipelinePlugin *another_name(const PipelineEngine *engine);
#endif
PIPELINE_EXPORT const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
  spoilt = stage;
#if defined(CASE_MISSING_SYMBOL)
  spoilt.process = PROCESS;
#endif
#if defined(CASE_NO_DESCRIPTION)
  return NULL;
#elif defined(CASE_OTHER_MAJOR)
  plugin.abi_major = 2;
#elif defined(CASE_NO_STAGES)
  plugin.n_stages = 0;
#elif defined(CASE_STAGES_NULL)
  plugin.stages = NULL;
#elif defined(CASE_TOO_MANY_STAGES)
  plugin.n_stages = SIZE_MAX;
#elif defined(CASE_PLUGIN_NAME_NULL)
  plugin.name = NULL;
#elif defined(CASE_STAGE_NULL)
  stages[0] = NULL;
#elif defined(CASE_STAGE_TOO_SMALL)
  spoilt.struct_size = 8;
#elif defined(CASE_NAME_NULL)
  spoilt.name = NULL;
#elif defined(CASE_NAME_NOT_UTF8)
  spoilt.name = "caf\xe9";
#elif defined(CASE_NAME_WITH_CAPITALS)
  spoilt.name = "Hostile";
#elif defined(CASE_NAME_EMPTY)
  spoilt.name = "";
#elif defined(CASE_EXAMPLE_NULL)
  spoilt.example = NULL;
#elif defined(CASE_SCHEMA_NOT_JSON)
  spoilt.schema = "window: 3";
#elif defined(CASE_SCHEMA_NO_OBJECT)
  spoilt.schema = "[]";
#elif defined(CASE_SCHEMA_OF_TEXT)
  spoilt.schema = "{\"type\": \"string\"}";
#elif defined(CASE_NO_BUILD)
  spoilt.build = NULL;
#elif defined(CASE_NO_PROCESS)
  spoilt.process = NULL;
#elif defined(CASE_UNKNOWN_KIND)
  spoilt.kind = 9;
#elif defined(CASE_TWO_OF_ONE_NAME)
  plugin.n_stages = 2;
#endif
  return &plugin;
}

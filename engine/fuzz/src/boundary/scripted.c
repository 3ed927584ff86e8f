/*
 * A plugin that does what a script says, byte by byte, right or wrong. It stays within what a host can defend itself
 * against: whatever it points to is memory of its own, NULL, or misaligned.
 */
#include "pipeline_plugin.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS 4
#define LONGEST 4096
/* Behind every place in it there is enough for each length that is not refused outright. */
#define POOL (1 << 15)

struct Stage {
  uint8_t script[LONGEST];
  size_t length, place;
};

/* What rows point to; it goes with them, and is not touched once they are given. */
struct Bundle {
  uint8_t pool[POOL];
  struct ArrowArray columns[COLUMNS + 1];
  struct ArrowArray *places[COLUMNS + 1];
  const void *buffers[COLUMNS + 1][4];
};

static struct ArrowSchema columns[COLUMNS];
static struct ArrowSchema *column_places[COLUMNS];

static uint8_t next(struct Stage *stage) {
  return stage->place < stage->length ? stage->script[stage->place++] : 0;
}

/* Mostly what is right, and otherwise what somebody might write by mistake. */
static int64_t number(struct Stage *stage, int64_t right) {
  static const int64_t wrong[] = {0, 1, -1, 2, 7, 8, 9, 63, 64, 65, 1000, 1LL << 31, 1LL << 32, 1LL << 40, INT64_MAX, INT64_MIN};
  uint8_t choice = next(stage);
  if (choice < 128) return right;
  return choice < 192 ? right + (choice - 160) : wrong[choice % (sizeof wrong / sizeof *wrong)];
}

static const void *memory(struct Stage *stage, const uint8_t *pool) {
  uint8_t choice = next(stage);
  if (choice == 255) return NULL;
  return pool + (choice < 128 ? 0 : choice % 64 * (choice < 192 ? 8 : 1));
}

/* The next bytes of the script become the beginning of the pool: offsets, bits, texts. */
static void fill(struct Stage *stage, uint8_t *pool) {
  uint8_t count = next(stage);
  for (int place = 0; place < count; place++) pool[place] = next(stage);
  /* Offsets that rise, for whoever wants text that is right. */
  if (count == 0) for (int32_t place = 0; place < 64; place++) memcpy(pool + 4 * place, &place, 4);
}

static void release_schema(struct ArrowSchema *schema) { schema->release = NULL; }
static void release_column(struct ArrowArray *array) { array->release = NULL; }
static void release_bundle(struct ArrowArray *array) {
  free(array->private_data);
  array->release = NULL;
}

static void describe(struct Stage *stage, struct ArrowSchema *schema) {
  static const char *const names[COLUMNS] = {"id", "on", "value", "at"};
  static const char *const formats[] = {"u", "b", "g", "tsu:UTC", "l", "z", "i", "U", "+s", "", "tsu:", "?!", NULL};
  for (int i = 0; i < COLUMNS; i++) {
    uint8_t choice = next(stage);
    memset(&columns[i], 0, sizeof columns[i]);
    columns[i].name = choice == 254 ? "id" : choice == 253 ? "\xff" : choice == 252 ? "" : names[i];
    columns[i].format = choice < 200 ? formats[i] : formats[choice % (sizeof formats / sizeof *formats)];
    columns[i].flags = choice & 1 ? 0 : ARROW_FLAG_NULLABLE;
    columns[i].release = choice == 251 ? NULL : release_schema;
    column_places[i] = choice == 250 ? NULL : &columns[i];
  }
  memset(schema, 0, sizeof *schema);
  schema->format = next(stage) == 255 ? "g" : "+s";
  schema->name = "";
  schema->n_children = number(stage, COLUMNS);
  if (COLUMNS < schema->n_children && schema->n_children <= 16384) schema->n_children = COLUMNS;
  schema->children = next(stage) == 255 ? NULL : column_places;
  schema->release = release_schema;
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type, (void)error;
  const char *text;
  if (!build->options->text(build->options->context, "script", &text)) return PIPELINE_CONFIG;
  struct Stage *stage = calloc(1, sizeof *stage);
  for (; text[0] && text[1] && stage->length < LONGEST; text += 2)
    stage->script[stage->length++] = (uint8_t)((text[0] - 'a') << 4 | (text[1] - 'a'));
  built->stage = stage;
  if (type->kind == PIPELINE_DETECTOR) {
    built->series_size = (size_t)number(stage, 16);
    return PIPELINE_OK;
  }
  describe(stage, &built->schema);
  built->bytes_per_series = (uint64_t)number(stage, 0);
  built->looks_back = (uint64_t)number(stage, 0);
  return number(stage, PIPELINE_OK);
}

static void destroy(void *stage) { free(stage); }

static void column(struct Stage *stage, struct Bundle *bundle, int place, int64_t rows) {
  struct ArrowArray *array = &bundle->columns[place];
  int is_text = place == 0;
  array->length = number(stage, rows);
  array->null_count = number(stage, 0);
  array->offset = number(stage, 0);
  array->n_buffers = number(stage, is_text ? 3 : 2);
  array->n_children = number(stage, 0);
  array->buffers = next(stage) == 255 ? NULL : bundle->buffers[place];
  array->release = next(stage) == 255 ? NULL : release_column;
  array->dictionary = next(stage) == 255 ? array : NULL;
  bundle->buffers[place][0] = next(stage) < 128 ? NULL : memory(stage, bundle->pool);
  bundle->buffers[place][1] = memory(stage, bundle->pool);
  bundle->buffers[place][2] = memory(stage, bundle->pool);
  bundle->places[place] = next(stage) == 255 ? NULL : array;
}

static struct ArrowArray made(struct Stage *stage, int64_t rows) {
  struct Bundle *bundle = calloc(1, sizeof *bundle);
  struct ArrowArray array;
  memset(&array, 0, sizeof array);
  fill(stage, bundle->pool);
  for (int i = 0; i < COLUMNS; i++) column(stage, bundle, i, rows);
  array.length = number(stage, rows);
  array.null_count = number(stage, 0);
  array.offset = number(stage, 0);
  array.n_buffers = number(stage, 1);
  array.n_children = number(stage, COLUMNS);
  array.buffers = next(stage) == 255 ? NULL : bundle->buffers[COLUMNS];
  bundle->buffers[COLUMNS][0] = next(stage) < 250 ? NULL : bundle->pool;
  array.children = next(stage) == 255 ? NULL : bundle->places;
  array.private_data = bundle;
  array.release = next(stage) == 255 ? NULL : release_bundle;
  if (array.release == NULL) free(bundle);
  return array;
}

static PipelineStatus act(struct Stage *stage, int64_t rows, struct ArrowArray *given, const PipelineOutput *output, PipelineError *error) {
  static const char *const words[] = {"it is too hot", "", "caf\xe9", NULL};
  uint32_t origins[64];
  for (int steps = next(stage) % 8; 0 < steps; steps--) {
    uint8_t choice = next(stage);
    switch (choice % 8) {
    case 0: {
      struct ArrowArray array = made(stage, rows);
      size_t count = (size_t)number(stage, rows) % 65;
      for (size_t i = 0; i < 64; i++) origins[i] = (uint32_t)(choice & 8 ? number(stage, (int64_t)i) : (int64_t)i);
      output->emit(output->context, choice & 16 ? NULL : &array, choice & 32 ? NULL : origins, count);
      if (array.release) array.release(&array);
      break;
    }
    case 1: {
      struct ArrowArray array = made(stage, rows);
      output->emit_created(output->context, &array);
      if (array.release) array.release(&array);
      break;
    }
    case 2: output->reject(output->context, (uint32_t)number(stage, 0), words[next(stage) % 4]); break;
    case 3: output->late(output->context, (uint32_t)number(stage, 0)); break;
    case 4: output->filtered(output->context, (uint64_t)number(stage, rows)); break;
    case 5: output->created(output->context, (uint64_t)number(stage, 1)); break;
    case 6:
      if (given == NULL) break;
      for (uint32_t i = 0; i < 64; i++) origins[i] = i;
      output->emit(output->context, given, origins, (size_t)rows);
      break;
    default:
      for (uint32_t place = 0; place < error->message_size; place++) error->message[place] = (char)(next(stage) | 1);
      return number(stage, PIPELINE_DATA);
    }
  }
  return number(stage, PIPELINE_OK);
}

static PipelineStatus process(void *stage, uint32_t input, struct ArrowArray *rows, const PipelineOutput *output, PipelineError *error) {
  (void)input;
  return act(stage, rows->length, rows, output, error);
}

static PipelineStatus tick(void *stage, int64_t now, int64_t watermark, const PipelineOutput *output, PipelineError *error) {
  (void)now, (void)watermark;
  return act(stage, 2, NULL, output, error);
}

static PipelineStatus save(void *given, const PipelineState *state, PipelineError *error) {
  static const uint8_t zeros[512];
  struct Stage *stage = given;
  (void)error;
  for (int steps = next(stage) % 8; 0 < steps; steps--) {
    size_t key = next(stage) == 255 ? (size_t)1 << 40 : next(stage);
    size_t value = next(stage) == 255 ? (size_t)1 << 40 : next(stage);
    if (next(stage) % 2) state->put(state->context, memory(stage, zeros), key, memory(stage, stage->script), value);
    else state->forget(state->context, memory(stage, zeros), key);
  }
  return number(stage, PIPELINE_OK);
}

static uint64_t held(void *stage) { return (uint64_t)number(stage, 0); }

static void start(const void *stage, void *series) { (void)stage, (void)series; }

static double figure(struct Stage *stage) {
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++) bits = bits << 8 | next(stage);
  double made;
  memcpy(&made, &bits, 8);
  return made;
}

static int32_t observe(const void *given, void *series, const PipelineReading *reading, PipelineScore *score) {
  struct Stage *stage = (struct Stage *)given;
  (void)series;
  if (next(stage) % 2) return (int32_t)number(stage, 0);
  *score = (PipelineScore){figure(stage), reading->value, figure(stage), figure(stage), 0.5, next(stage)};
  return (int32_t)number(stage, 1);
}

static PipelineStatus load(const void *stage, const uint8_t *saved, size_t length, void *series, PipelineError *error) {
  (void)saved, (void)length, (void)series, (void)error;
  return number((struct Stage *)stage, PIPELINE_OK);
}

static const PipelineStage rows = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_TRANSFORM,
    .name = "scripted",
    .example = "scripted:\n  type: scripted\n  script: aa\n",
    .schema = "{\"description\": \"Does what it is told.\", \"properties\": {\"script\": {\"type\": \"string\"}}}",
    .build = build,
    .destroy = destroy,
    .process = process,
    .tick = tick,
    .save = save,
    .held = held,
};
static const PipelineStage series = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_DETECTOR,
    .name = "scripted",
    .example = "scripted:\n  type: scripted\n  value: value\n  script: aa\n",
    .schema = "{\"description\": \"Does what it is told.\", \"properties\": {\"script\": {\"type\": \"string\"}}}",
    .build = build,
    .destroy = destroy,
    .start = start,
    .observe = observe,
    .load = load,
    .statistic = "told",
    .state_version = 1,
};
static const PipelineStage *const stages[] = {&rows, &series};
static const PipelinePlugin plugin = {PIPELINE_ABI_MAJOR, PIPELINE_ABI_MINOR, sizeof(PipelinePlugin), "scripted", "0.1", stages, 2};

PIPELINE_EXPORT const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
  return &plugin;
}

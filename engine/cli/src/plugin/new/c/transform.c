/*
 * `heartbeat`: a column in another unit, `value x factor + offset`.
 *
 * A transform of whole batches: the columns come and go as Arrow arrays (https://arrow.apache.org/docs/format/CDataInterface.html).
 * What a plugin has to keep to stands in pipeline_plugin.h.
 */
#include "pipeline_plugin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options, and the number of the column. */
typedef struct {
  int64_t column;
  double factor;
  double offset;
} Options;

static PipelineStatus no_memory(PipelineError *error) {
  snprintf(error->message, error->message_size, "there is no memory left");
  return PIPELINE_FATAL;
}

static char *copy(const char *text) {
  char *made = malloc(strlen(text) + 1);
  return made == NULL ? NULL : strcpy(made, text);
}

static void release_schema(struct ArrowSchema *schema) {
  for (int64_t i = 0; i < schema->n_children; i++) {
    free((char *)schema->children[i]->name);
    free((char *)schema->children[i]->format);
    free(schema->children[i]);
  }
  free(schema->children);
  schema->release = NULL;
}
static void release_field(struct ArrowSchema *field) { field->release = NULL; }

/* The columns that it gives: those it takes, of which one may be null now. */
static int copy_schema(const struct ArrowSchema *from, int64_t nullable, struct ArrowSchema *to) {
  *to = (struct ArrowSchema){.format = "+s", .name = "", .release = release_schema};
  to->children = calloc((size_t)from->n_children, sizeof *to->children);
  if (to->children == NULL) return 0;
  for (int64_t i = 0; i < from->n_children; i++) {
    struct ArrowSchema *field = to->children[i] = calloc(1, sizeof *field);
    if (field == NULL) return 0;
    to->n_children++;
    field->format = copy(from->children[i]->format);
    field->name = copy(from->children[i]->name);
    field->flags = i == nullable ? ARROW_FLAG_NULLABLE : from->children[i]->flags;
    field->release = release_field;
    if (field->format == NULL || field->name == NULL) return 0;
  }
  return 1;
}

/* The number of a column; -1 when there is none of this name. */
static int64_t find(const struct ArrowSchema *columns, const char *name) {
  for (int64_t i = 0; i < columns->n_children; i++) {
    if (strcmp(columns->children[i]->name, name) == 0) return i;
  }
  return -1;
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const PipelineOptions *given = build->options;
  const struct ArrowSchema *columns = build->inputs[0];
  const char *name = "";
  Options made = {.factor = 1.0};
  given->text(given->context, "column", &name);
  given->number(given->context, "factor", &made.factor);
  given->number(given->context, "offset", &made.offset);
  made.column = find(columns, name);
  /* `g` is Arrow's name for Float64. */
  if (made.column < 0 || strcmp(columns->children[made.column]->format, "g") != 0) {
    const char *what = made.column < 0 ? "there is no column `%s`" : "column `%s` must be a float";
    snprintf(error->message, error->message_size, what, name);
    snprintf(error->option, error->option_size, "column");
    return PIPELINE_CONFIG;
  }
  Options *kept = malloc(sizeof *kept);
  if (kept == NULL) return no_memory(error);
  if (!copy_schema(columns, made.column, &built->schema)) {
    built->schema.release(&built->schema);
    free(kept);
    return no_memory(error);
  }
  *kept = made;
  built->stage = kept;
  return PIPELINE_OK;
}

static void destroy(void *stage) { free(stage); }

static void release_numbers(struct ArrowArray *array) {
  free((void *)array->buffers[0]);
  free((void *)array->buffers[1]);
  free(array->buffers);
  array->release = NULL;
}

static int is_null(const struct ArrowArray *array, int64_t row) {
  const uint8_t *valid = array->buffers[0];
  int64_t bit = array->offset + row;
  return valid != NULL && !(valid[bit / 8] >> (bit % 8) & 1);
}

/* A new column of the converted values. */
static int convert(const Options *options, const struct ArrowArray *from, struct ArrowArray *to) {
  size_t length = (size_t)from->length;
  const void **buffers = calloc(2, sizeof *buffers);
  uint8_t *valid = calloc(length / 8 + 1, 1);
  double *values = calloc(length + 1, sizeof *values);
  if (buffers == NULL || valid == NULL || values == NULL) {
    free(buffers), free(valid), free(values);
    return 0;
  }
  const double *old = (const double *)from->buffers[1] + from->offset;
  int64_t nulls = 0;
  for (size_t i = 0; i < length; i++) {
    double value = is_null(from, (int64_t)i) ? NAN : old[i] * options->factor + options->offset;
    /* What no number can hold is null. */
    if (!isfinite(value)) {
      nulls++;
      continue;
    }
    values[i] = value;
    valid[i / 8] |= (uint8_t)(1 << i % 8);
  }
  buffers[0] = valid;
  buffers[1] = values;
  *to = (struct ArrowArray){.length = from->length, .null_count = nulls, .n_buffers = 2, .buffers = buffers, .release = release_numbers};
  return 1;
}

/* The engine owns what is emitted, and releases the new column with the rows it came in place of: those keep it. */
typedef struct {
  struct ArrowArray rows;     /* as they came, without the column that was replaced */
  struct ArrowArray old;      /* that column */
  struct ArrowArray *replaced;
} Kept;

static void release_rows(struct ArrowArray *array) {
  Kept *kept = array->private_data;
  if (kept->replaced->release != NULL) kept->replaced->release(kept->replaced);
  *kept->replaced = kept->old;
  kept->rows.release(&kept->rows);
  free(kept);
  array->release = NULL;
}

static PipelineStatus process(void *stage, uint32_t input, struct ArrowArray *rows, const PipelineOutput *output, PipelineError *error) {
  (void)input;
  const Options *options = stage;
  struct ArrowArray *column = rows->children[options->column];
  struct ArrowArray converted;
  Kept *kept = malloc(sizeof *kept);
  if (kept == NULL || !convert(options, column, &converted)) {
    free(kept);
    return no_memory(error);
  }
  *kept = (Kept){.rows = *rows, .old = *column, .replaced = column};
  *column = converted;
  struct ArrowArray given = *rows;
  given.private_data = kept;
  given.release = release_rows;
  rows->release = NULL; /* taken (rule 3) */
  return output->emit(output->context, &given, NULL, 0);
}

static const PipelineStage STAGE = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_TRANSFORM,
    .name = "heartbeat",
    .example = "fahrenheit:\n  type: heartbeat\n  inputs: [readings]\n  column: value\n  factor: 1.8\n  offset: 32\n",
    .schema = "{\"description\": \"Gives every row on with one of its columns in another unit: `value x factor + offset`.\","
              "\"type\": \"object\", \"required\": [\"column\"], \"properties\": {"
              "\"column\": {\"type\": \"string\", \"description\": \"The column, a float.\"},"
              "\"factor\": {\"type\": \"number\", \"default\": 1.0, \"description\": \"What its values are multiplied with.\"},"
              "\"offset\": {\"type\": \"number\", \"default\": 0.0, \"description\": \"What is added afterwards.\"}}}",
    .build = build,
    .destroy = destroy,
    .process = process,
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

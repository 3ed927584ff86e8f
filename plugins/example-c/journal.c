/*
 * A sink in C: appends rows to a CSV file for each task, exactly once.
 *
 *     cc -O2 -shared -fPIC -I ../../engine/abi/include journal.c -o libjournal.so
 *
 * A file cannot take rows and a mark in one transaction. So the engine keeps the mark, with the length of the file in
 * it, and after a crash hands it to `claim`, which cuts off what was written later: the engine writes it again.
 */
#define _POSIX_C_SOURCE 200809L
#include "pipeline_plugin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PATH = 4096, MAX_COLUMNS = 256, MAX_TASKS = 1024 };

/* The file of one task. */
typedef struct {
  char *task;
  FILE *file;
} Output;

typedef struct {
  char prefix[MAX_PATH];
  size_t n_columns;
  char *names[MAX_COLUMNS];
  char types[MAX_COLUMNS]; /* the first letter of Arrow's format: u, l, g, b, or t for a timestamp */
  Output outputs[MAX_TASKS];
  size_t n_outputs;
} Journal;

static PipelineStatus failed(PipelineError *error, PipelineStatus status, const char *what, const char *reason) {
  snprintf(error->message, error->message_size, "%s: %s", what, reason);
  return status;
}

static void destroy(void *sink) {
  Journal *journal = sink;
  for (size_t i = 0; i < journal->n_columns; i++) free(journal->names[i]);
  for (size_t i = 0; i < journal->n_outputs; i++) {
    free(journal->outputs[i].task);
    fclose(journal->outputs[i].file);
  }
  free(journal);
}

/* No file is opened here: `validate` builds every stage, too. */
static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const char *path = NULL;
  if (!build->options->text(build->options->context, "path", &path) || *path == 0) {
    snprintf(error->option, error->option_size, "path");
    return failed(error, PIPELINE_CONFIG, "`path` is empty", "it must name a file");
  }
  const struct ArrowSchema *columns = build->inputs[0];
  if (columns->n_children > MAX_COLUMNS) return failed(error, PIPELINE_CONFIG, "too many columns", "at most 256 can be");
  Journal *journal = calloc(1, sizeof *journal);
  if (journal == NULL) return failed(error, PIPELINE_FATAL, "no memory is left", strerror(ENOMEM));
  const char *folder = *path == '/' ? "" : build->directory;
  int length = snprintf(journal->prefix, MAX_PATH, "%s%s%s", folder, *folder ? "/" : "", path);
  if (length >= MAX_PATH) {
    destroy(journal);
    return failed(error, PIPELINE_CONFIG, "`path` is too long", "it may have some thousand bytes");
  }
  for (int64_t i = 0; i < columns->n_children; i++) {
    journal->types[i] = columns->children[i]->format[0];
    journal->names[i] = strdup(columns->children[i]->name);
    journal->n_columns++;
  }
  built->stage = journal;
  built->delivery = PIPELINE_TRUNCATING;
  return PIPELINE_OK;
}

static Output *find(Journal *journal, const char *task) {
  for (size_t i = 0; i < journal->n_outputs; i++) {
    if (strcmp(journal->outputs[i].task, task) == 0) return &journal->outputs[i];
  }
  return NULL;
}

/* `out.csv` of the task `readings/3` is `out.csv.readings-3.5f0c21ab`. The last part is of the state's id: a new life of
 * the state begins a new file, so that nothing is cut off that an earlier one has written. */
static FILE *open_file(const Journal *journal, const PipelineOwner *owner) {
  char path[MAX_PATH + 256];
  snprintf(path, sizeof path, "%s.%s.%.8s", journal->prefix, owner->task, owner->state_id);
  for (char *at = path + strlen(journal->prefix); *at; at++) *at = *at == '/' ? '-' : *at;
  FILE *file = fopen(path, "r+b");
  return file != NULL ? file : fopen(path, "w+b");
}

static void write_text(FILE *file, const char *bytes, size_t length) {
  int is_plain = 1;
  for (size_t i = 0; i < length; i++) is_plain &= strchr(",\"\r\n", bytes[i]) == NULL || bytes[i] == 0;
  if (is_plain) {
    fwrite(bytes, 1, length, file);
    return;
  }
  fputc('"', file);
  for (size_t i = 0; i < length; i++) {
    if (bytes[i] == '"') fputc('"', file);
    fputc(bytes[i], file);
  }
  fputc('"', file);
}

static void write_header(const Journal *journal, FILE *file) {
  for (size_t i = 0; i < journal->n_columns; i++) {
    if (i > 0) fputc(',', file);
    write_text(file, journal->names[i], strlen(journal->names[i]));
  }
  fputc('\n', file);
}

static PipelineStatus claim(void *sink, const PipelineOwner *owner, const PipelineClaim *claim, PipelineError *error) {
  Journal *journal = sink;
  const PipelineMark *mark = owner->stored;
  if (mark != NULL && strcmp(mark->state_id, owner->state_id) == 0 && owner->generation < mark->generation) {
    return failed(error, PIPELINE_LOST, owner->task, "the task has a later owner");
  }
  Output *output = find(journal, owner->task);
  if (output == NULL) {
    if (journal->n_outputs == MAX_TASKS) return failed(error, PIPELINE_FATAL, "too many tasks", "at most 1,024 can be");
    FILE *file = open_file(journal, owner);
    if (file == NULL) return failed(error, PIPELINE_TRANSIENT, journal->prefix, strerror(errno));
    output = &journal->outputs[journal->n_outputs++];
    output->task = strdup(owner->task);
    output->file = file;
  }
  long length = mark != NULL && mark->detail != NULL ? atol(mark->detail) : 0;
  if (fseek(output->file, 0, SEEK_END) != 0 || ftell(output->file) < length) {
    return failed(error, PIPELINE_FATAL, journal->prefix, "the file is shorter than it was: somebody has changed it");
  }
  if (ftruncate(fileno(output->file), length) != 0 || fseek(output->file, length, SEEK_SET) != 0) {
    return failed(error, PIPELINE_TRANSIENT, journal->prefix, strerror(errno));
  }
  if (length == 0) write_header(journal, output->file);
  if (mark != NULL) claim->at(claim->context, mark);
  return PIPELINE_OK;
}

static int is_set(const void *bits, int64_t at) { return ((const uint8_t *)bits)[at / 8] >> (at % 8) & 1; }

static void write_value(FILE *file, char type, const struct ArrowArray *column, int64_t row) {
  int64_t at = column->offset + row;
  if (column->buffers[0] != NULL && !is_set(column->buffers[0], at)) return; /* null is an empty field */
  if (type == 'u') {
    const int32_t *offsets = column->buffers[1];
    const char *bytes = column->buffers[2];
    write_text(file, bytes == NULL ? "" : bytes + offsets[at], (size_t)(offsets[at + 1] - offsets[at]));
  } else if (type == 'g') {
    fprintf(file, "%.17g", ((const double *)column->buffers[1])[at]);
  } else if (type == 'b') {
    fputs(is_set(column->buffers[1], at) ? "true" : "false", file);
  } else {
    fprintf(file, "%" PRId64, ((const int64_t *)column->buffers[1])[at]); /* a timestamp: microseconds since 1970 */
  }
}

static void write_rows(const Journal *journal, FILE *file, const struct ArrowArray *rows) {
  for (int64_t row = 0; row < rows->length; row++) {
    for (size_t i = 0; i < journal->n_columns; i++) {
      if (i > 0) fputc(',', file);
      write_value(file, journal->types[i], rows->children[i], rows->offset + row);
    }
    fputc('\n', file);
  }
}

static PipelineStatus commit(void *sink, const PipelineEpoch *const *epochs, size_t n_epochs, const PipelineCommit *commit, PipelineError *error) {
  Journal *journal = sink;
  for (size_t i = 0; i < n_epochs; i++) {
    Output *output = find(journal, epochs[i]->mark->task);
    if (output == NULL) return failed(error, PIPELINE_FATAL, epochs[i]->mark->task, "the task was not claimed");
    for (size_t j = 0; j < epochs[i]->n_rows; j++) write_rows(journal, output->file, epochs[i]->rows[j]->rows);
    /* After an error the engine claims again, which cuts off what this has written. */
    if (fflush(output->file) != 0 || fsync(fileno(output->file)) != 0) {
      clearerr(output->file);
      return failed(error, PIPELINE_TRANSIENT, journal->prefix, strerror(errno));
    }
    char length[32];
    snprintf(length, sizeof length, "%ld", ftell(output->file));
    commit->detail(commit->context, i, length);
  }
  return PIPELINE_OK;
}

static const PipelineStage JOURNAL = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_SINK,
    .name = "journal",
    .example = "history:\n  type: journal\n  inputs: [readings]\n  path: readings.csv\n",
    .schema = "{\"description\": \"Appends rows to a CSV file for each task, exactly once.\","
              "\"type\": \"object\", \"required\": [\"path\"], \"properties\": {"
              "\"path\": {\"type\": \"string\","
              " \"description\": \"The file, relative to the pipeline file; the task and the state's id are added to its name.\"}}}",
    .build = build,
    .destroy = destroy,
    .claim = claim,
    .commit = commit,
};

static const PipelineStage *const STAGES[] = {&JOURNAL};

static const PipelinePlugin PLUGIN = {
    .abi_major = PIPELINE_ABI_MAJOR,
    .abi_minor = PIPELINE_ABI_MINOR,
    .struct_size = sizeof(PipelinePlugin),
    .name = "example-c",
    .version = "1.0.0",
    .stages = STAGES,
    .n_stages = 1,
};

const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
  return &PLUGIN;
}

/*
 * The smallest transform in C: it gives its rows on as they are.
 *
 *     cc -O2 -shared -fPIC -I ../../engine/abi/include pass.c -o libpass_c.so
 *
 * What it costs is what the boundary costs: `pipeline plugin bench ./libpass_c.so` measures that.
 */
#include "pipeline_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A schema that stands in the same memory as another one, under other rules of release, is copied column by column. */
static void release_schema(struct ArrowSchema *schema) {
  for (int64_t i = 0; i < schema->n_children; i++) {
    free((char *)schema->children[i]->name);
    free((char *)schema->children[i]->format);
    free(schema->children[i]);
  }
  free(schema->children);
  schema->release = NULL;
}
static void release_column(struct ArrowSchema *column) { column->release = NULL; }

static char *copy(const char *text) {
  char *made = malloc(strlen(text) + 1);
  return made == NULL ? NULL : strcpy(made, text);
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const struct ArrowSchema *columns = build->inputs[0];
  struct ArrowSchema *schema = &built->schema;
  *schema = (struct ArrowSchema){.format = "+s", .name = "", .release = release_schema};
  schema->children = calloc((size_t)columns->n_children + 1, sizeof *schema->children);
  for (int64_t i = 0; schema->children != NULL && i < columns->n_children; i++) {
    struct ArrowSchema *column = calloc(1, sizeof *column);
    if (column == NULL) break;
    schema->children[schema->n_children++] = column;
    column->format = copy(columns->children[i]->format);
    column->name = copy(columns->children[i]->name);
    column->flags = columns->children[i]->flags;
    column->release = release_column;
    if (column->format == NULL || column->name == NULL) break;
  }
  if (schema->n_children == columns->n_children) return PIPELINE_OK;
  snprintf(error->message, error->message_size, "there is no memory left");
  return PIPELINE_FATAL;
}

/* The rows are the engine's and go back to it: it takes them over, and nothing is left to be released here. */
static PipelineStatus process(void *stage, uint32_t input, struct ArrowArray *rows, const PipelineOutput *output, PipelineError *error) {
  (void)stage, (void)input, (void)error;
  return output->emit(output->context, rows, NULL, 0);
}

static const PipelineStage PASS = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_TRANSFORM,
    .name = "pass_c",
    .example = "same:\n  type: pass_c\n  inputs: [readings]\n",
    .schema = "{\"description\": \"Gives its rows on as they are.\", \"type\": \"object\", \"properties\": {}}",
    .build = build,
    .process = process,
};

static const PipelineStage *const STAGES[] = {&PASS};

static const PipelinePlugin PLUGIN = {
    .abi_major = PIPELINE_ABI_MAJOR,
    .abi_minor = PIPELINE_ABI_MINOR,
    .struct_size = sizeof(PipelinePlugin),
    .name = "pass-c",
    .version = "1.0.0",
    .stages = STAGES,
    .n_stages = 1,
};

const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine) {
  (void)engine;
  return &PLUGIN;
}

/*
 * `heartbeat`: how much larger the step to this reading is than the steps before it.
 *
 * A detector of one series: the engine finds the series of each row, hands its memory to `observe`, and saves it.
 * What a plugin has to keep to stands in pipeline_plugin.h.
 */
#include "pipeline_plugin.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The options. */
typedef struct {
  double threshold;
  uint32_t memory;
} Options;

/* The memory of a series: numbers only, so that it can be saved as it lies. */
typedef struct {
  double last;
  double usual_step;
  uint32_t readings;
} Past;

/* Fewer steps say little about what is usual. */
enum { MIN_STEPS = 8 };

static PipelineStatus wrong_option(PipelineError *error, const char *option, const char *words) {
  snprintf(error->message, error->message_size, "%s", words);
  snprintf(error->option, error->option_size, "%s", option);
  return PIPELINE_CONFIG;
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const PipelineOptions *given = build->options;
  double threshold = 4.0;
  int64_t memory = 30;
  given->number(given->context, "threshold", &threshold);
  given->integer(given->context, "memory", &memory);
  if (!(threshold > 1.0)) return wrong_option(error, "threshold", "`threshold` must be above 1");
  if (memory < 2 || memory > 100000) return wrong_option(error, "memory", "`memory` must be 2 to 100000");
  Options *made = malloc(sizeof *made);
  if (made == NULL) {
    snprintf(error->message, error->message_size, "there is no memory left");
    return PIPELINE_FATAL;
  }
  *made = (Options){threshold, (uint32_t)memory};
  built->stage = made;
  built->series_size = sizeof(Past);
  return PIPELINE_OK;
}

static void destroy(void *stage) { free(stage); }

/* The memory of a new series is all 0, which is right for `Past`. */
static void start(const void *stage, void *series) { (void)stage, (void)series; }

/* 1 and the score of a step; 0 when it is too early, or the series does not move. */
static int32_t score_of(const Options *options, const Past *past, double step, PipelineScore *score) {
  if (past->readings <= MIN_STEPS || !(past->usual_step > 0.0)) return 0;
  double ratio = fmin(step / past->usual_step, DBL_MAX);
  double margin = options->threshold * past->usual_step;
  score->score = ratio / options->threshold;
  score->is_anomaly = options->threshold < ratio;
  score->expected = past->last;
  score->lower = past->last - margin;
  score->upper = past->last + margin;
  score->statistic = ratio;
  return 1;
}

/* A step that is an anomaly counts as much as `threshold` allows: an outlier does not become the norm. */
static void learn(const Options *options, Past *past, double step) {
  double most = options->threshold * past->usual_step;
  double learned = past->usual_step == 0.0 ? step : fmin(step, most);
  /* `memory` may have been larger when the series was saved: it is looked at here, not there. */
  double weight = past->readings < options->memory ? past->readings : options->memory;
  past->usual_step += (learned - past->usual_step) / weight;
}

static int32_t observe(const void *stage, void *series, const PipelineReading *reading, PipelineScore *score) {
  const Options *options = stage;
  Past *past = series;
  int32_t has_score = 0;
  if (past->readings > 0) {
    /* The distance of two finite numbers may be infinite, and only finite ones may be remembered. */
    double step = fmin(fabs(reading->value - past->last), DBL_MAX);
    has_score = score_of(options, past, step, score);
    learn(options, past, step);
  }
  past->last = reading->value;
  if (past->readings < UINT32_MAX) past->readings++;
  return has_score;
}

static const PipelineStage STAGE = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_DETECTOR,
    .name = "heartbeat",
    .example = "jumps:\n  type: heartbeat\n  inputs: [readings]\n  value: value\n  threshold: 4.0\n",
    .schema = "{\"description\": \"Scores a reading by how many times larger its step is than steps of its series usually are.\","
              "\"type\": \"object\", \"properties\": {"
              "\"threshold\": {\"type\": \"number\", \"exclusiveMinimum\": 1, \"default\": 4.0,"
              " \"description\": \"How many times larger than usual a step must be to be an anomaly.\"},"
              "\"memory\": {\"type\": \"integer\", \"minimum\": 2, \"maximum\": 100000, \"default\": 30,"
              " \"description\": \"From how many steps the usual one is learned.\"}}}",
    .build = build,
    .destroy = destroy,
    .start = start,
    .observe = observe,
    .statistic = "step_ratio",
    .state_version = 1, /* raise it when `Past` changes */
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

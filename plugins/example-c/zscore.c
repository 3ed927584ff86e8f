/*
 * A detector of one series in C: how many standard deviations a reading is away from those before it.
 *
 *     cc -O2 -shared -fPIC -I ../../engine/abi/include zscore.c -o libzscore_c.so -lm
 *
 * The engine finds the series of each row, hands its memory to `observe`, and saves it: after a restart, even a hard
 * one, the window is as it was.
 */
#include "pipeline_plugin.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options. */
typedef struct {
  uint32_t window;
  uint32_t min_samples;
  double threshold;
} Zscore;

/* The memory of a series: a ring of its latest readings. */
typedef struct {
  uint32_t count;
  uint32_t next; /* where the next reading goes once the ring is full: where the oldest one stands */
  double values[];
} Window;

static size_t window_bytes(uint32_t window) { return sizeof(Window) + window * sizeof(double); }

static PipelineStatus wrong_option(PipelineError *error, const char *option, const char *words) {
  snprintf(error->message, error->message_size, "%s", words);
  snprintf(error->option, error->option_size, "%s", option);
  return PIPELINE_CONFIG;
}

static PipelineStatus build(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error) {
  (void)type;
  const PipelineOptions *options = build->options;
  int64_t window = 30, min_samples = 2;
  double threshold = 3.0;
  options->integer(options->context, "window", &window);
  options->integer(options->context, "min_samples", &min_samples);
  options->number(options->context, "threshold", &threshold);
  if (window < 2 || window > 100000) return wrong_option(error, "window", "`window` must be 2 to 100000");
  if (min_samples < 2 || min_samples > window) {
    return wrong_option(error, "min_samples", "`min_samples` must be 2 to `window`");
  }
  if (!(threshold > 0.0)) return wrong_option(error, "threshold", "`threshold` must be above 0");
  Zscore *zscore = malloc(sizeof *zscore);
  if (zscore == NULL) {
    snprintf(error->message, error->message_size, "there is no memory left");
    return PIPELINE_FATAL;
  }
  *zscore = (Zscore){(uint32_t)window, (uint32_t)min_samples, threshold};
  built->stage = zscore;
  built->series_size = window_bytes(zscore->window);
  /* An engine of version 1.0 has no room for it. */
  if (offsetof(PipelineBuilt, looks_back) < built->struct_size) built->looks_back = zscore->window;
  return PIPELINE_OK;
}

static void destroy(void *stage) { free(stage); }

static void start(const void *stage, void *series) {
  (void)stage;
  Window *window = series;
  window->count = 0;
  window->next = 0;
}

/* Knuth's TwoSum: the rounded sum, and in *error exactly what was rounded away is added up. */
static double two_sum(double a, double b, double *error) {
  double sum = a + b;
  double b_part = sum - a;
  *error += (a - (sum - b_part)) + (b - b_part);
  return sum;
}

/* In four lanes and then across them: rounded once but for readings of very different sizes, as the engine's own is. */
static double exact_sum(const double *values, uint32_t count) {
  double sums[4] = {0}, errors[4] = {0};
  uint32_t whole = count - count % 4;
  for (uint32_t i = 0; i < whole; i++) sums[i % 4] = two_sum(sums[i % 4], values[i], &errors[i % 4]);
  double total = 0.0, error = 0.0;
  for (int lane = 0; lane < 4; lane++) error += errors[lane];
  for (int lane = 0; lane < 4; lane++) total = two_sum(total, sums[lane], &error);
  for (uint32_t i = whole; i < count; i++) total = two_sum(total, values[i], &error);
  return total + error;
}

/* A sum in two floats, with twice their digits. */
typedef struct {
  double sum, rest;
} Double;

static void add(Double *to, double value, double rest) {
  double lost = 0.0, over = 0.0;
  double sum = two_sum(to->sum, value, &lost);
  to->sum = two_sum(sum, to->rest + (lost + rest), &over);
  to->rest = over;
}

static Double total_of(const Double lanes[4]) {
  Double total = lanes[0];
  for (int lane = 1; lane < 4; lane++) add(&total, lanes[lane].sum, lanes[lane].rest);
  return total;
}

/* A number as two of half as many digits. */
static Double halves(double value) {
  double scaled = value * 134217729.0; /* 2^27 + 1 */
  double high = scaled - (scaled - value);
  return (Double){high, value - high};
}

/* Dekker's product: rounded, and exactly what was rounded away. */
static Double product(double a, double b) {
  Double x = halves(a), y = halves(b);
  double rounded = a * b;
  return (Double){rounded, ((x.sum * y.sum - rounded) + x.sum * y.rest + x.rest * y.sum) + x.rest * y.rest};
}

static Double square_by(Double number, double by) {
  Double square = product(number.sum, number.sum);
  double part = square.sum / by;
  Double back = product(part, by);
  return (Double){part, (((square.sum - back.sum) - back.rest) + (square.rest + 2.0 * number.sum * number.rest)) / by};
}

/* The sum of the squared distances from the mean, rounded once, as the engine's own z-score has it to the last bit. */
static double sum_of_squares(const double *values, uint32_t count, double mean) {
  Double squares[4] = {{0}}, distances[4] = {{0}};
  for (uint32_t i = 0; i < count; i++) {
    double rest = 0.0, distance = two_sum(values[i], -mean, &rest);
    Double square = product(distance, distance);
    add(&squares[i % 4], square.sum, square.rest + 2.0 * distance * rest);
    add(&distances[i % 4], distance, rest);
  }
  Double all = total_of(squares), off = square_by(total_of(distances), count); /* the mean was rounded */
  double lost = 0.0, spread = two_sum(all.sum, -off.sum, &lost);
  return spread + (lost + (all.rest - off.rest));
}

/* 1 and the score of a value against a window; 0 when it is too early, or the window has no spread. */
static int32_t score_of(const Zscore *zscore, const Window *past, double value, PipelineScore *score) {
  if (past->count < zscore->min_samples) return 0;
  double least = past->values[0], greatest = past->values[0];
  for (uint32_t i = 1; i < past->count; i++) {
    least = past->values[i] < least ? past->values[i] : least;
    greatest = greatest < past->values[i] ? past->values[i] : greatest;
  }
  if (least == greatest) return 0;
  double mean = exact_sum(past->values, past->count) / past->count;
  double deviation = sqrt(sum_of_squares(past->values, past->count, mean) / past->count);
  if (!isfinite(mean) || !isfinite(deviation) || !(deviation > 0.0)) return 0;
  /* A spread that is next to nothing must not make an infinity of a finite reading. */
  double z = fmin(fabs(value - mean) / deviation, DBL_MAX);
  double margin = zscore->threshold * deviation;
  score->score = fmin(z / zscore->threshold, DBL_MAX);
  score->expected = mean;
  score->lower = mean - margin;
  score->upper = mean + margin;
  score->statistic = z;
  score->is_anomaly = zscore->threshold < z;
  return 1;
}

static int32_t observe(const void *stage, void *series, const PipelineReading *reading, PipelineScore *score) {
  const Zscore *zscore = stage;
  Window *past = series;
  int32_t has_score = score_of(zscore, past, reading->value, score);
  if (past->count < zscore->window) {
    past->values[past->count++] = reading->value;
  } else {
    past->values[past->next] = reading->value;
    past->next = (past->next + 1) % zscore->window;
  }
  return has_score;
}

/* A window saved under another `window` is laid out anew, oldest first; its newest readings are kept. */
static PipelineStatus load(const void *stage, const uint8_t *saved, size_t saved_length, void *series, PipelineError *error) {
  const Zscore *zscore = stage;
  const Window *from = (const Window *)(const void *)saved;
  Window *to = series;
  size_t room = saved_length < sizeof(Window) ? 0 : (saved_length - sizeof(Window)) / sizeof(double);
  if (room == 0 || from->count > room || from->next >= room) {
    snprintf(error->message, error->message_size, "a saved window of %zu bytes is damaged", saved_length);
    return PIPELINE_FATAL;
  }
  if (room == zscore->window) {
    memcpy(to, from, saved_length);
    return PIPELINE_OK;
  }
  uint32_t kept = from->count < zscore->window ? from->count : zscore->window;
  uint32_t first = from->count == room ? from->next : 0; /* of a ring that was not full, the first is the oldest */
  for (uint32_t i = 0; i < kept; i++) to->values[i] = from->values[(first + from->count - kept + i) % from->count];
  to->count = kept;
  to->next = 0;
  return PIPELINE_OK;
}

static const PipelineStage ZSCORE = {
    .struct_size = sizeof(PipelineStage),
    .kind = PIPELINE_DETECTOR,
    .name = "zscore_c",
    .example = "spikes:\n  type: zscore_c\n  inputs: [readings]\n  value: value\n  window: 30\n  threshold: 3.0\n",
    .schema = "{\"description\": \"Rolling z-score, in C: how many standard deviations a reading is away from those before it.\","
              "\"type\": \"object\", \"properties\": {"
              "\"window\": {\"type\": \"integer\", \"minimum\": 2, \"maximum\": 100000, \"default\": 30,"
              " \"description\": \"How many readings before this one are looked at.\"},"
              "\"min_samples\": {\"type\": \"integer\", \"minimum\": 2, \"default\": 2,"
              " \"description\": \"How many there must be before anything is said.\"},"
              "\"threshold\": {\"type\": \"number\", \"exclusiveMinimum\": 0, \"default\": 3.0,"
              " \"description\": \"How many standard deviations make an anomaly.\"}}}",
    .build = build,
    .destroy = destroy,
    .start = start,
    .observe = observe,
    .load = load,
    .statistic = "z_score",
    .state_version = 1,
};

static const PipelineStage *const STAGES[] = {&ZSCORE};

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

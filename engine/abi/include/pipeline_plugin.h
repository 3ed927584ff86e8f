/*
 * pipeline_plugin.h: how stages in a shared library are called by `pipeline`.
 *
 * This header is the document of record. docs/abi.md says why each odd rule is as it is.
 * It is C99; C++ compiles it. A plugin needs nothing else.
 *
 * A library exports one symbol, the function `pipeline_plugin`. It answers with descriptors of its stages; each is
 * the name of a stage, its documentation and the functions that make and run it. A function that a stage cannot do
 * is NULL.
 *
 * Rules
 *  1. Everything that the engine passes is valid during the call only, unless the text of a function says more. What
 *     a descriptor points to must stay as it is for the life of the process: libraries are never unloaded.
 *  2. Text is UTF-8 and ends with a NUL. Bytes have a length and no NUL.
 *  3. Only Arrow's own structures change owners, by Arrow's C data interface: who takes one copies it and sets
 *     `release` of the original to NULL. An array that the engine passes and that is not taken is released by the
 *     engine after the call. Children may be taken one by one, as Arrow allows it. `release` of what a plugin has
 *     given may be called from any thread at any time, also while the stage is called and after `destroy`: it must not
 *     touch the stage, call the engine, or throw.
 *  4. A stage is called from one thread at a time, not always the same one. Different stages, also of one type, are
 *     called from different threads at once. `log` may be called from any thread at any time.
 *  5. No function may unwind (a C++ exception, a Rust panic), end the process, or wait for ever.
 *  6. Structures begin with `struct_size`, the size that whoever made them knew. Fields are only ever added at the
 *     end: look at it before reading a field that a later minor version has added. The major version changes when
 *     this is not enough, and a library of another major version is refused.
 *  7. A function that can fail returns a status, 0 when it worked, and writes words into `error` otherwise: lower
 *     case, no full stop, what was found and what would be right, without the stage's name.
 */
#ifndef PIPELINE_PLUGIN_H
#define PIPELINE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIPELINE_ABI_MAJOR 1
#define PIPELINE_ABI_MINOR 0

/* Arrow's C data interface, as https://arrow.apache.org/docs/format/CDataInterface.html defines it. */
#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4
struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};
struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};
#endif

/* What became of a call. */
typedef int32_t PipelineStatus;
enum {
  PIPELINE_OK = 0,
  PIPELINE_CONFIG = 1,    /* the options are wrong: the pipeline is not started */
  PIPELINE_DATA = 2,      /* the rows of this call cannot be processed: they become dead letters */
  PIPELINE_TRANSIENT = 3, /* it may work later: tried again with growing pauses */
  PIPELINE_LOST = 4,      /* the stage's state is gone: the task starts again from its checkpoint */
  PIPELINE_FATAL = 5      /* nothing helps: the pipeline stops at its last commit */
};

/* Where a function that fails writes why; the memory is the engine's. */
typedef struct PipelineError {
  uint32_t struct_size;
  uint32_t message_size; /* how many bytes `message` has room for, the NUL included */
  char *message;
  char *option;          /* the option that is wrong, as a path inside the stage: `window`, `columns.2` */
  uint32_t option_size;
} PipelineError;

enum { PIPELINE_LOG_ERROR = 1, PIPELINE_LOG_WARN = 2, PIPELINE_LOG_INFO = 3, PIPELINE_LOG_DEBUG = 4, PIPELINE_LOG_TRACE = 5 };

/* What the engine offers; valid for the life of the process. */
typedef struct PipelineEngine {
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t struct_size;
  const char *version;                             /* of the engine, for people */
  void (*log)(int32_t level, const char *text);    /* one line of the log */
} PipelineEngine;

/* The options of a stage as they stand in the pipeline file, checked against the stage's JSON Schema. */
typedef struct PipelineOptions {
  uint32_t struct_size;
  const char *json;  /* all of them, as a JSON object */
  const void *context;
  /* An option by its path (`window`, `columns.2.name`). 1 and the value when it is there and of this type, else 0.
   * Text is valid during `build`. */
  int32_t (*number)(const void *context, const char *path, double *value);
  int32_t (*integer)(const void *context, const char *path, int64_t *value);
  int32_t (*flag)(const void *context, const char *path, int32_t *value);
  int32_t (*text)(const void *context, const char *path, const char **value);
} PipelineOptions;

/* One value of the state that a stage has saved. */
typedef struct PipelineEntry {
  const uint8_t *key;
  size_t key_length;
  const uint8_t *value;
  size_t value_length;
} PipelineEntry;

/* What a stage is made of. */
typedef struct PipelineBuild {
  uint32_t struct_size;
  const char *pipeline;     /* the pipeline's name */
  const char *id;           /* the stage's id in the file */
  const char *directory;    /* relative paths in options start here */
  const char *const *key;   /* the columns that make a series */
  size_t n_key;
  int32_t once;             /* 1: the run ends when what is there now is read */
  const PipelineOptions *options;
  const struct ArrowSchema *const *inputs; /* a struct of columns for each input, in the order of `inputs:` */
  size_t n_inputs;
  const PipelineEntry *state;              /* by rising key; none at a first start */
  size_t n_state;
} PipelineBuild;

/* What `build` says about the stage it has made. The engine sets everything to 0 before. */
typedef struct PipelineBuilt {
  uint32_t struct_size;
  void *stage;                /* handed to every other function */
  struct ArrowSchema schema;  /* the columns it gives, a struct; taken by the engine */
  uint64_t bytes_per_series;  /* roughly what a series costs in memory; 0 when it keeps none */
  size_t series_size;         /* of a series detector: the bytes of memory for one series */
} PipelineBuilt;

/* What a transform says about the rows it was given. Each must be emitted, rejected, late, filtered or held. */
typedef struct PipelineOutput {
  uint32_t struct_size;
  void *context;
  /* Gives rows, a struct of the columns that `schema` has. `origins` says for each the row of the batch that was
   * given; NULL with n_origins 0: row i came from row i. Takes `rows`, also when it fails. */
  PipelineStatus (*emit)(void *context, struct ArrowArray *rows, const uint32_t *origins, size_t n_origins);
  /* Gives rows that were made by `tick`, or of rows taken earlier. */
  PipelineStatus (*emit_created)(void *context, struct ArrowArray *rows);
  /* Makes a dead letter of a row of the batch that was given. */
  void (*reject)(void *context, uint32_t row, const char *why);
  /* Drops a row because the watermark has passed it. */
  void (*late)(void *context, uint32_t row);
  /* Counts rows that were left out on purpose. */
  void (*filtered)(void *context, uint64_t rows);
  /* Counts rows that are given without having come in. */
  void (*created)(void *context, uint64_t rows);
} PipelineOutput;

/* Where a stage writes what has changed in its state. A value has at most 64 MiB. */
typedef struct PipelineState {
  uint32_t struct_size;
  void *context;
  PipelineStatus (*put)(void *context, const uint8_t *key, size_t key_length, const uint8_t *value, size_t value_length);
  PipelineStatus (*forget)(void *context, const uint8_t *key, size_t key_length);
} PipelineState;

/* No time is known. */
#define PIPELINE_NO_TIME INT64_MIN

/* One reading of a series. Its value is finite. */
typedef struct PipelineReading {
  int64_t at; /* event time in microseconds since 1970, or PIPELINE_NO_TIME */
  double value;
} PipelineReading;

/* What a detector says of a reading. What is not finite is null in the row. */
typedef struct PipelineScore {
  double score;       /* 1.0 is the threshold, whatever the method */
  double expected;    /* the value that would have been least surprising */
  double lower;       /* below it the reading would have been an anomaly */
  double upper;       /* above it the reading would have been an anomaly */
  double statistic;   /* the method's own figure */
  int32_t is_anomaly; /* 1 or 0 */
} PipelineScore;

enum { PIPELINE_TRANSFORM = 2, PIPELINE_DETECTOR = 3 };

/* A type of stage. */
typedef struct PipelineStage PipelineStage;
struct PipelineStage {
  uint32_t struct_size;
  uint32_t kind;
  const char *name;    /* `type:` in the file: a-z, 0-9 and _ */
  const char *example; /* a YAML stage that works, under its id */
  const char *schema;  /* JSON Schema of the options; its `description` is the documentation */

  /* Makes a stage of this type: checks the options, restores the state. No I/O. Called once for each task, and by
   * `validate`; from several threads at once. */
  PipelineStatus (*build)(const PipelineStage *type, const PipelineBuild *build, PipelineBuilt *built, PipelineError *error);
  /* The stage is not used any more. */
  void (*destroy)(void *stage);

  /* A transform, or a detector of whole batches. No clock, no randomness, no I/O: how rows are cut into batches
   * must not matter. */
  /* Takes the next rows of an input, at most 8,192. */
  PipelineStatus (*process)(void *stage, uint32_t input, struct ArrowArray *rows, const PipelineOutput *output, PipelineError *error);
  /* The end of an epoch: its recorded time and the watermark (PIPELINE_NO_TIME: none), microseconds since 1970. */
  PipelineStatus (*tick)(void *stage, int64_t now, int64_t watermark, const PipelineOutput *output, PipelineError *error);
  /* Writes what has changed in its state since the last call. */
  PipelineStatus (*save)(void *stage, const PipelineState *state, PipelineError *error);
  /* How many rows it has taken and neither given, rejected nor dropped yet. */
  uint64_t (*held)(void *stage);

  /* A detector of one series: the engine finds the series of each row, keeps its memory and saves it. These three
   * take the place of process, tick, save and held, which are NULL then. */
  /* Sets the memory of a series of which nothing was read yet; it is 16-byte aligned and all 0. */
  void (*start)(const void *stage, void *series);
  /* Scores the next reading against what came before it, then remembers it. 1 and the score, or 0: too early. */
  int32_t (*observe)(const void *stage, void *series, const PipelineReading *reading, PipelineScore *score);
  /* Turns the saved memory of a series into memory for these options. NULL: it must have the same size and is taken
   * as it is. Numbers are saved as they lie in memory: little-endian on every machine that the engine runs on. */
  PipelineStatus (*load)(const void *stage, const uint8_t *saved, size_t saved_length, void *series, PipelineError *error);
  const char *statistic;  /* the column of the method's own figure: `z_score` */
  uint16_t state_version; /* raised when saved memory cannot be read any more */
};

/* What a library says about itself. The first three fields are the same in every version for ever. */
typedef struct PipelinePlugin {
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t struct_size;
  const char *name;
  const char *version;
  const PipelineStage *const *stages;
  size_t n_stages;
} PipelinePlugin;

#if defined(_WIN32)
#define PIPELINE_EXPORT __declspec(dllexport)
#else
#define PIPELINE_EXPORT __attribute__((visibility("default")))
#endif

/* The symbol that a library exports. Called once. */
PIPELINE_EXPORT const PipelinePlugin *pipeline_plugin(const PipelineEngine *engine);

#ifdef __cplusplus
}
#endif
#endif

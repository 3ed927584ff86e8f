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
 *     called from different threads at once, and so is a reader beside its source. `log` and `print` may be called from
 *     any thread at any time. `build` and `destroy` do no I/O. A source or sink has a thread of its own for its other
 *     functions: they may block, but for no longer than `wait_ms` where they are given one.
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
#define PIPELINE_ABI_MINOR 1

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
  PIPELINE_DATA = 2,      /* the rows of this call cannot be processed: they become dead letters; not of a source */
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
  uint32_t retry_after_ms; /* of PIPELINE_TRANSIENT: how long the other side asked to be left alone; 0: not said */
} PipelineError;

enum { PIPELINE_LOG_ERROR = 1, PIPELINE_LOG_WARN = 2, PIPELINE_LOG_INFO = 3, PIPELINE_LOG_DEBUG = 4, PIPELINE_LOG_TRACE = 5 };

/* What the engine offers; valid for the life of the process. */
typedef struct PipelineEngine {
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t struct_size;
  const char *version;                             /* of the engine, for people */
  void (*log)(int32_t level, const char *text);    /* one line of the log */
  int32_t (*log_level)(void);                      /* the last level that is written: what is above it may be left out */
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
  const char *directory;    /* relative paths in options start here; never empty */
  const char *const *key;   /* the columns that make a series */
  size_t n_key;
  int32_t once;             /* 1: the run ends when what is there now is read */
  const PipelineOptions *options;
  const struct ArrowSchema *const *inputs; /* a struct of columns for each input, in the order of `inputs:` */
  size_t n_inputs;
  const PipelineEntry *state;              /* by rising key; none at a first start */
  size_t n_state;
  int32_t cold_start;       /* 1: the user accepts that state is missing */
  /* Standard output, for a sink that writes there; valid until `destroy`. `print` takes whole lines and gives 0, or -1
   * when nobody reads any more, which the sink tells as PIPELINE_FATAL with the words `broken pipe`. */
  const void *console;
  int32_t (*print)(const void *console, const uint8_t *lines, size_t length);
  int32_t console_is_terminal; /* 1: a person is looking */
  /* Of a source. */
  int32_t is_follower;      /* 1: another source's assignments make the tasks; it opens the partitions it is asked for */
  uint32_t framing;         /* how the source's format cuts a stream of bytes: PIPELINE_NO_FRAMING, … */
  uint8_t delimiter;        /* of PIPELINE_CSV: what stands between two fields */
  uint8_t quote;            /* of PIPELINE_CSV: the quote character */
  uint8_t has_header;       /* of PIPELINE_CSV: 1: the first record is the header, to be given with every batch */
  /* Since 1.1, of a sink: the detector that its rows come through. NULL: none, or not known which. */
  const char *detector;            /* its id in the file */
  const char *const *detector_key; /* the columns that make one of its series */
  size_t n_detector_key;
  const char *detector_time;       /* its column of times; NULL: it was given none */
} PipelineBuild;

enum { PIPELINE_NO_FRAMING = 0, PIPELINE_LINES = 1, PIPELINE_CSV = 2 };

/* What a source is: bits of `flags`. */
enum {
  /* It gives payloads, which a format decodes. `schema` is a struct of `payload` (binary, null is a tombstone) and, if
   * it has them, `key` (binary) and `time` (timestamp in microseconds, UTC), all nullable. */
  PIPELINE_RAW = 1,
  /* The same rows cannot be read again: the engine keeps them in its log until they are in a checkpoint. */
  PIPELINE_CANNOT_REPLAY = 2,
  /* Its input is parted already: there is a task for each partition. Otherwise it gives one partition, `0`, and the
   * engine spreads its rows over `tasks:`. */
  PIPELINE_HAS_PARTITIONS = 4
};

/* What a sink promises. */
enum {
  PIPELINE_TRANSACTIONAL = 1, /* rows and mark in one transaction: exactly once */
  PIPELINE_TRUNCATING = 2,    /* `claim` cuts back to the mark's detail (a file's length): exactly once */
  PIPELINE_AT_LEAST_ONCE = 3, /* neither: a restart may repeat the last epoch */
  PIPELINE_OUTBOX = 4         /* single rows to a slow other side: the engine keeps them and calls `deliver` */
};

enum { PIPELINE_DIGEST = 0, PIPELINE_WAIT = 1 };

/* What `build` says about the stage it has made. The engine sets everything to 0 before. */
typedef struct PipelineBuilt {
  uint32_t struct_size;
  void *stage;                /* handed to every other function */
  /* The columns it gives, a struct; taken by the engine. Their formats are `u` (text), `l` (int64), `g` (float64),
   * `b` (boolean) and `tsu:UTC` (microseconds). One without ARROW_FLAG_NULLABLE must have no nulls; NaN is a value. */
  struct ArrowSchema schema;
  uint64_t bytes_per_series;  /* roughly what a series costs in memory; 0 when it keeps none */
  size_t series_size;         /* of a series detector: the bytes of memory for one series */
  uint32_t flags;             /* of a source: PIPELINE_RAW, … */
  uint32_t delivery;          /* of a sink: PIPELINE_TRANSACTIONAL, … */
  /* Of an outbox sink; 0 is the engine's default. */
  uint32_t at_most_every_ms;  /* the least time between two deliveries */
  uint32_t timeout_ms;        /* the longest a delivery may take (30,000) */
  uint64_t max_pending;       /* how many alerts may wait (10,000) */
  uint32_t when_full;         /* PIPELINE_DIGEST: one counted summary for the excess; PIPELINE_WAIT: the pipeline waits */
  /* Since 1.1, of a detector: how many readings of a series before one suffice to score it as if it had seen all of
   * them; 0: not known, or it depends on all of them. One that needs none says 1. */
  uint64_t looks_back;
} PipelineBuilt;

/* What a transform says about the rows it was given. Each must be emitted, rejected, late, filtered or held. */
typedef struct PipelineOutput {
  uint32_t struct_size;
  void *context;
  /* Gives rows, a struct of the columns that `schema` has. `origins` says for each the row of the batch that was
   * given; NULL with n_origins 0: row i came from row i. With origins at most 2^24 rows. Takes `rows`, also when it
   * fails. */
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

/* Where a stage writes what has changed in its state. A value has at most 64 MiB, all of one `save` together 1 GiB. */
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

/* One partition of a source; the engine runs one task for each. */
typedef struct PipelinePartition {
  uint32_t struct_size;
  uint32_t number;  /* what the pipeline's other sources are asked for when several feed one task */
  const char *name; /* stable over restarts and unique in the source: it names the task and its state */
} PipelinePartition;

/* A place between two rows: reading goes on with the first row whose offset is at least this. */
typedef struct PipelinePosition {
  uint32_t struct_size;
  uint64_t offset;    /* orders the rows of a partition: a Kafka offset, a byte in a file, a count; gaps are allowed */
  const char *detail; /* what else the source needs to find the place again, in its own words; or NULL */
} PipelinePosition;

/* Where `assignment` says what has changed. A call says one kind of change; a second kind waits for the next call. */
typedef struct PipelineAssignment {
  uint32_t struct_size;
  void *context;
  void (*gained)(void *context, const PipelinePartition *partition);  /* a task is started */
  void (*revoked)(void *context, const PipelinePartition *partition); /* its task commits and stops, then `release` */
  void (*lost)(void *context, const PipelinePartition *partition);    /* its task is dropped: somebody else has it */
  void (*final)(void *context);  /* there will be no other change: the run ends when its tasks have */
} PipelineAssignment;

/* Rows of a source, at most 8,192, in the order of their offsets. */
typedef struct PipelineBatch {
  uint32_t struct_size;
  struct ArrowArray *rows;  /* a struct of the columns that `schema` has; taken, also when it is refused */
  const uint64_t *offsets;  /* one for each row, rising */
  size_t n_offsets;
  /* Of payloads. */
  const char *topic;        /* the topic or file */
  uint32_t partition;       /* its number */
  const uint8_t *header;    /* the header record, for a format that wants one, at most 16 MiB; or NULL */
  size_t header_length;
} PipelineBatch;

/* Where a reader says what it has found. */
typedef struct PipelineFound {
  uint32_t struct_size;
  void *context;
  /* Gives rows; at most once a call. */
  PipelineStatus (*rows)(void *context, const PipelineBatch *batch);
  /* Says where it stands, after the rows of this call. `open` must say it, and `read` when it has given rows. */
  void (*position)(void *context, const PipelinePosition *position);
  /* Says how many rows (of the unit of offsets) there are still to be read. */
  void (*lag)(void *context, uint64_t rows);
  /* Says that nothing comes after the rows of this call: the stream is over, or `until` is reached. */
  void (*over)(void *context);
} PipelineFound;

/* How far the output of a task has got. A sink keeps it as it is and gives it back. */
typedef struct PipelineMark {
  uint32_t struct_size;
  const char *pipeline;
  const char *sink;
  const char *task;
  const char *state_id;   /* random, made with the task's state: tells one life of the state from another */
  uint64_t generation;    /* of the owner that wrote it */
  uint64_t epoch;         /* the last one whose rows are there */
  const char *positions;  /* where that epoch ended, as JSON; for people */
  const char *detail;     /* what the sink wants to know after a restart (a file's length), or NULL */
} PipelineMark;

/* Who writes: one task of one run of a pipeline. */
typedef struct PipelineOwner {
  uint32_t struct_size;
  const char *pipeline;
  const char *sink;           /* the sink's id in the file */
  const char *task;
  const char *state_id;
  uint64_t generation;        /* rises with each owner of the task */
  const PipelineMark *stored; /* the last mark that the engine keeps for sinks that cannot; or NULL */
  int32_t takes_over;         /* 1: a mark of another state id is taken over (set to this owner, epoch kept) */
} PipelineOwner;

/* Where `claim` says what it has found. */
typedef struct PipelineClaim {
  uint32_t struct_size;
  void *context;
  /* The mark that the last owner left, as it was before the generation was raised. Not called: there is none. */
  void (*at)(void *context, const PipelineMark *mark);
} PipelineClaim;

/* Rows for a sink, with where each came from. */
typedef struct PipelineRows {
  uint32_t struct_size;
  struct ArrowArray *rows;   /* a struct of the columns of its input; may be taken (rule 3) */
  const char *place;         /* the partition they were read from, as `source/partition`; of rows that a stage has made, `stage/partition` */
  const uint64_t *offsets;   /* of the row that each came from */
  uint64_t branch;           /* by which stages they came, as a number, if `branches` is NULL */
  const uint64_t *branches;  /* one for each row; or NULL */
} PipelineRows;

/* The rows of one epoch. */
typedef struct PipelineEpoch {
  uint32_t struct_size;
  const PipelineMark *mark;          /* what the mark is once they are written */
  const PipelineRows *const *rows;   /* in order; may be none: only the mark is written */
  size_t n_rows;
} PipelineEpoch;

/* Where `commit` says more than that it worked. Numbers are indexes: into the epochs, their `rows`, and the rows of one. */
typedef struct PipelineCommit {
  uint32_t struct_size;
  void *context;
  /* A row that can never be taken. When there is one, nothing may have been written, and all must be named: the engine
   * makes dead letters of them and calls again without. `commit` returns PIPELINE_OK then. */
  void (*refuse)(void *context, size_t epoch, size_t rows, size_t row, const char *why);
  /* What goes into the mark of an epoch as its `detail`. */
  void (*detail)(void *context, size_t epoch, const char *detail);
  /* Writes the id of a row and a NUL: 19 characters, the same for the same row whenever it is processed. 1, or 0 if
   * there is no such row. */
  int32_t (*row_id)(void *context, size_t epoch, size_t rows, size_t row, char id[20]);
} PipelineCommit;

/* One row to be delivered. */
typedef struct PipelineAlert {
  uint32_t struct_size;
  const char *id;      /* the same at every delivery of the same row */
  const char *json;    /* the row as a JSON object, timestamps as RFC 3339 text in UTC; of a digest, its last row */
  uint64_t digest_of;  /* how many rows it stands for when it is a digest; else 0 */
} PipelineAlert;

/* Where `check` says what is wrong. */
typedef struct PipelineFindings {
  uint32_t struct_size;
  void *context;
  /* One problem: a status as of an error, words, and the option it is about or NULL. */
  void (*found)(void *context, PipelineStatus status, const char *words, const char *option);
} PipelineFindings;

enum { PIPELINE_SOURCE = 1, PIPELINE_TRANSFORM = 2, PIPELINE_DETECTOR = 3, PIPELINE_SINK = 4 };

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
  /* Takes the next rows of an input, at most 8,192. Arrays may begin anywhere: row i of column c is at
   * `rows->offset + c->offset + i`, and `buffers[0]`, which says what is null, may be NULL. */
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

  /* A source or a sink. */
  /* Looks, for `validate --connect`, whether what the options name is there. NULL: there is nothing to look for. */
  PipelineStatus (*check)(void *stage, const PipelineFindings *findings, PipelineError *error);

  /* A source: says what this process owns, opens readers, and is told how far their rows are safe. Its readers have
   * threads of their own. PIPELINE_TRANSIENT is tried again, for ever. */
  /* How many partitions there are, for pipelines with several sources. NULL: it has none of its own. */
  PipelineStatus (*partition_count)(void *source, uint32_t *count, PipelineError *error);
  /* Waits up to `wait_ms` for the next change of what this process owns; says nothing when there was none. Called in a
   * loop until `final`. NULL: the one partition `0`, number 0, for ever. */
  PipelineStatus (*assignment)(void *source, uint32_t wait_ms, const PipelineAssignment *assignment, PipelineError *error);
  /* Opens a partition; `from` is where the task's state stands, NULL at its first start. Says its position: the
   * resolved start, which is not before `from`. A partition is open once at a time. */
  PipelineStatus (*open)(void *source, const PipelinePartition *partition, const PipelinePosition *from, const PipelineFound *found, void **reader, PipelineError *error);
  /* Waits up to `wait_ms` for rows, never beyond `until` (NULL: no limit); says nothing when there were none. With
   * `once` the stream is over where its end was when it was opened. After an error it goes on where it stood. */
  PipelineStatus (*read)(void *reader, const PipelinePosition *until, uint32_t wait_ms, const PipelineFound *found, PipelineError *error);
  /* The reader is not used any more. All are closed before `destroy`. */
  void (*close)(void *reader);
  /* What was read before `through` is in the epoch log on disk: it may be acknowledged. May be NULL. */
  PipelineStatus (*logged)(void *source, const PipelinePartition *partition, const PipelinePosition *through, PipelineError *error);
  /* What was read before `through` is in a checkpoint: it is never read again. May be NULL. */
  PipelineStatus (*forget)(void *source, const PipelinePartition *partition, const PipelinePosition *through, PipelineError *error);
  /* The task of a revoked partition has stopped: another process may have it. May be NULL. */
  PipelineStatus (*release)(void *source, const PipelinePartition *partition, PipelineError *error);

  /* A sink of whole epochs. One serves all tasks of a process. */
  /* Becomes the owner of a task's output: raises the generation, shuts older owners out, says how far they got. Called
   * before the first commit of a task and again after every PIPELINE_TRANSIENT of `commit`. A transactional sink reads
   * its own mark, others cut back to `stored` and say it. A mark of a higher generation and the same state id is
   * PIPELINE_LOST: somebody else owns the task. */
  PipelineStatus (*claim)(void *sink, const PipelineOwner *owner, const PipelineClaim *claim, PipelineError *error);
  /* Writes the rows of these epochs and their marks, atomically, and returns once they are durable. The epochs are of
   * several tasks, in rising order for each. A transactional sink updates the mark last, where the generation is its
   * own and the epoch lower; if there is no such mark, PIPELINE_LOST and nothing is written. */
  PipelineStatus (*commit)(void *sink, const PipelineEpoch *const *epochs, size_t n_epochs, const PipelineCommit *commit, PipelineError *error);

  /* An outbox sink, in place of claim and commit. */
  /* Delivers one alert and returns once the other side has taken it. PIPELINE_TRANSIENT is tried again, for ever;
   * PIPELINE_DATA makes a dead letter of it. It may be called again for an alert that was delivered. */
  PipelineStatus (*deliver)(void *sink, const PipelineAlert *alert, PipelineError *error);
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

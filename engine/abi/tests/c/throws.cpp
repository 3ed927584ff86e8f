// A C++ library whose functions throw, one for each -DCASE_…; C++ compiles the header.

#include <pipeline_plugin.h>

#include <cstdint>
#include <stdexcept>
#include <string>

[[noreturn, maybe_unused]] static void fail() {
#if defined(CASE_WITHOUT_WORDS)
  throw 7;
#elif defined(CASE_WORDS_NULL)
  struct Wordless : std::exception {
    const char *what() const noexcept override { return nullptr; }
  };
  throw Wordless();
#else
  throw std::runtime_error("the " + std::string("sensor table") + " is empty");
#endif
}

extern "C" {

static int a_stage;

static PipelineStatus build(const PipelineStage *, const PipelineBuild *, PipelineBuilt *built, PipelineError *) {
#if defined(CASE_BUILD)
  fail();
#endif
  built->stage = &a_stage;
  built->series_size = 8;
  return PIPELINE_OK;
}

static void destroy(void *) {
#if defined(CASE_DESTROY)
  fail();
#endif
}

static void start(const void *, void *) {
#if defined(CASE_START)
  fail();
#endif
}

static int32_t observe(const void *, void *series, const PipelineReading *, PipelineScore *) {
#if defined(CASE_OBSERVE) || defined(CASE_WITHOUT_WORDS) || defined(CASE_WORDS_NULL)
  if (++*static_cast<int64_t *>(series) == 2) fail();
#else
  ++*static_cast<int64_t *>(series);
#endif
  return 0;
}

// Throws when the case says so, from every function that a stage can have.
#define MAY_FAIL(name) \
  if (std::string(CASE) == name) fail()

static PipelineStatus build_other(const PipelineStage *, const PipelineBuild *, PipelineBuilt *built, PipelineError *) {
  static ArrowSchema column{}, schema{};
  static ArrowSchema *columns[] = {&column};
  auto release = [](ArrowSchema *of) { of->release = nullptr; };
  column.format = "l", column.name = "number", column.release = release;
  schema.format = "+s", schema.name = "", schema.n_children = 1, schema.children = columns, schema.release = release;
  built->stage = &a_stage;
  built->schema = schema;
  built->delivery = PIPELINE_TRANSACTIONAL;
  return PIPELINE_OK;
}

static PipelineStatus build_outbox(const PipelineStage *, const PipelineBuild *, PipelineBuilt *built, PipelineError *) {
  built->stage = &a_stage;
  built->delivery = PIPELINE_OUTBOX;
  return PIPELINE_OK;
}

static PipelineStatus process(void *, uint32_t, ArrowArray *rows, const PipelineOutput *output, PipelineError *) {
  MAY_FAIL("PROCESS");
  output->filtered(output->context, static_cast<uint64_t>(rows->length));
  return PIPELINE_OK;
}

static PipelineStatus tick(void *, int64_t, int64_t, const PipelineOutput *, PipelineError *) {
  MAY_FAIL("TICK");
  return PIPELINE_OK;
}

static PipelineStatus save(void *, const PipelineState *, PipelineError *) {
  MAY_FAIL("SAVE");
  return PIPELINE_OK;
}

static uint64_t held(void *) {
  MAY_FAIL("HELD");
  return 7;
}

static PipelineStatus check(void *, const PipelineFindings *, PipelineError *) {
  MAY_FAIL("CHECK");
  return PIPELINE_OK;
}

static PipelineStatus partition_count(void *, uint32_t *count, PipelineError *) {
  MAY_FAIL("PARTITION_COUNT");
  *count = 1;
  return PIPELINE_OK;
}

static PipelineStatus assignment(void *, uint32_t, const PipelineAssignment *to, PipelineError *) {
  MAY_FAIL("ASSIGNMENT");
  to->final(to->context);
  return PIPELINE_OK;
}

static PipelineStatus open(void *, const PipelinePartition *, const PipelinePosition *, const PipelineFound *found, void **reader, PipelineError *) {
  *reader = &a_stage;
  MAY_FAIL("OPEN");
  const PipelinePosition start{sizeof start, 0, nullptr};
  found->position(found->context, &start);
  return PIPELINE_OK;
}

static PipelineStatus read(void *, const PipelinePosition *, uint32_t, const PipelineFound *found, PipelineError *) {
  MAY_FAIL("READ");
  found->over(found->context);
  return PIPELINE_OK;
}

static void close(void *) { MAY_FAIL("CLOSE"); }

static PipelineStatus logged(void *, const PipelinePartition *, const PipelinePosition *, PipelineError *) {
  MAY_FAIL("LOGGED");
  return PIPELINE_OK;
}

static PipelineStatus forget(void *, const PipelinePartition *, const PipelinePosition *, PipelineError *) {
  MAY_FAIL("FORGET");
  return PIPELINE_OK;
}

static PipelineStatus release(void *, const PipelinePartition *, PipelineError *) {
  MAY_FAIL("RELEASE");
  return PIPELINE_OK;
}

static PipelineStatus claim(void *, const PipelineOwner *, const PipelineClaim *, PipelineError *) {
  MAY_FAIL("CLAIM");
  return PIPELINE_OK;
}

static PipelineStatus commit(void *, const PipelineEpoch *const *, size_t, const PipelineCommit *, PipelineError *) {
  MAY_FAIL("COMMIT");
  return PIPELINE_OK;
}

static PipelineStatus deliver(void *, const PipelineAlert *, PipelineError *) {
  MAY_FAIL("DELIVER");
  return PIPELINE_OK;
}

static PipelineStage stage_of(uint32_t kind, const char *name) {
  PipelineStage stage{};
  stage.struct_size = sizeof stage;
  stage.kind = kind;
  stage.name = name;
  stage.example = "it: { type: throws }";
  stage.schema = "{\"description\": \"Throws.\", \"type\": \"object\", \"properties\": {}}";
  stage.build = build_other;
  stage.destroy = destroy;
  stage.check = check;
  return stage;
}

PIPELINE_EXPORT const PipelinePlugin *pipeline_plugin(const PipelineEngine *) {
  static PipelineStage stage{};
  stage.struct_size = sizeof stage;
  stage.kind = PIPELINE_DETECTOR;
  stage.name = "throws";
  stage.example = "spikes: { type: throws, inputs: [readings], value: value }";
  stage.schema = "{\"description\": \"Throws.\", \"type\": \"object\", \"properties\": {}}";
  stage.build = build;
  stage.destroy = destroy;
  stage.start = start;
  stage.observe = observe;
  stage.statistic = "count";
  static PipelineStage transform = stage_of(PIPELINE_TRANSFORM, "transform");
  transform.process = process, transform.tick = tick, transform.save = save, transform.held = held;
  static PipelineStage source = stage_of(PIPELINE_SOURCE, "source");
  source.partition_count = partition_count, source.assignment = assignment, source.open = open, source.read = read;
  source.close = close, source.logged = logged, source.forget = forget, source.release = release;
  static PipelineStage sink = stage_of(PIPELINE_SINK, "sink");
  sink.claim = claim, sink.commit = commit;
  static PipelineStage outbox = stage_of(PIPELINE_SINK, "outbox");
  outbox.build = build_outbox, outbox.deliver = deliver;
  static const PipelineStage *const stages[] = {&stage, &transform, &source, &sink, &outbox};
  static PipelinePlugin plugin{};
  plugin.abi_major = PIPELINE_ABI_MAJOR;
  plugin.abi_minor = PIPELINE_ABI_MINOR;
  plugin.struct_size = sizeof plugin;
  plugin.name = "throws";
  plugin.version = "1.0.0";
  plugin.stages = stages;
  plugin.n_stages = 5;
#if defined(CASE_LOAD)
  fail();
#endif
  return &plugin;
}
}

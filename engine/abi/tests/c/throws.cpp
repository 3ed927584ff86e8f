// A C++ library whose functions throw, one for each -DCASE_…; C++ compiles the header.

#include <pipeline_plugin.h>

#include <cstdint>
#include <stdexcept>
#include <string>

[[noreturn, maybe_unused]] static void fail() {
#if defined(CASE_WITHOUT_WORDS)
  throw 7;
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
#if defined(CASE_OBSERVE) || defined(CASE_WITHOUT_WORDS)
  if (++*static_cast<int64_t *>(series) == 2) fail();
#else
  ++*static_cast<int64_t *>(series);
#endif
  return 0;
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
  static const PipelineStage *const stages[] = {&stage};
  static PipelinePlugin plugin{};
  plugin.abi_major = PIPELINE_ABI_MAJOR;
  plugin.abi_minor = PIPELINE_ABI_MINOR;
  plugin.struct_size = sizeof plugin;
  plugin.name = "throws";
  plugin.version = "1.0.0";
  plugin.stages = stages;
  plugin.n_stages = 1;
#if defined(CASE_LOAD)
  fail();
#endif
  return &plugin;
}
}

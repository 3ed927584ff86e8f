// Catches what a plugin throws: Rust cannot catch the exceptions of another language.

#include <cstddef>
#include <cstdio>
#include <exception>

// Calls `body` and returns 0, or 1 with the words of the exception that left it.
extern "C" int pipeline_guard(void (*body)(void *), void *context, char *words, std::size_t size) {
  try {
    body(context);
    return 0;
  } catch (const std::exception &exception) {
    std::snprintf(words, size, "%s", exception.what());
  } catch (...) {
    std::snprintf(words, size, "of a type that has no words");
  }
  return 1;
}

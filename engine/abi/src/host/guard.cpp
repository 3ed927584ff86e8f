// Catches what a plugin throws: Rust cannot catch the exceptions of another language.

#include <cstddef>
#include <cstdio>
#include <exception>

// Writes the words of an exception; it may have none, or fail to say them.
static void write_words(const std::exception &exception, char *words, std::size_t size) {
  try {
    const char *what = exception.what();
    std::snprintf(words, size, "%s", what == nullptr ? "without words" : what);
  } catch (...) {
    std::snprintf(words, size, "whose words cannot be said");
  }
}

// Calls `body` and returns 0, or 1 with the words of the exception that left it.
extern "C" int pipeline_guard(void (*body)(void *), void *context, char *words, std::size_t size) {
  try {
    body(context);
    return 0;
  } catch (const std::exception &exception) {
    write_words(exception, words, size);
  } catch (...) {
    std::snprintf(words, size, "of a type that has no words");
  }
  return 1;
}

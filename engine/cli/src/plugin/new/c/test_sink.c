/* Tests of heartbeat.c: `make test`. */
#include "heartbeat.c"

static int failed_tests = 0;

static void expect(int holds, const char *what) {
  printf("%s %s\n", holds ? "ok    " : "FAILED", what);
  failed_tests += !holds;
}

/* What `write` writes, as text. */
static const char *written(FILE *file) {
  static char text[256];
  rewind(file);
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  rewind(file);
  return text;
}

int main(void) {
  FILE *file = tmpfile();
  write_text(file, "plain", 5);
  expect(strcmp(written(file), "plain") == 0, "plain text is written as it is");
  write_text(file, "a \"b\", c", 8);
  expect(strcmp(written(file), "\"a \"\"b\"\", c\"") == 0, "text with a comma or a quote is quoted");
  fclose(file);

  const double numbers[] = {0.0, 1.5, 2.5};
  const uint8_t valid[] = {0x05};
  const void *buffers[] = {valid, numbers};
  struct ArrowArray column = {.length = 2, .offset = 1, .n_buffers = 2, .buffers = buffers}, *columns[] = {&column};
  const struct ArrowArray rows = {.length = 2, .n_children = 1, .children = columns};
  const Journal journal = {.n_columns = 1, .types = {'g'}};
  file = tmpfile();
  write_rows(&journal, file, &rows);
  expect(strcmp(written(file), "\n2.5\n") == 0, "a row is a line, and null is nothing");
  fclose(file);
  return failed_tests != 0;
}

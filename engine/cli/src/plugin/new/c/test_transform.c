/* Tests of heartbeat.c: `make test`. */
#include "heartbeat.c"

static int failed = 0;

static void expect(int holds, const char *what) {
  printf("%s %s\n", holds ? "ok    " : "FAILED", what);
  failed += !holds;
}

int main(void) {
  /* Rows 1 to 4 of five, of which row 2 is null. */
  const double values[] = {-1.0, 0.0, 5.0, 100.0, 1e308};
  const uint8_t valid[] = {0x1b};
  const void *buffers[] = {valid, values};
  struct ArrowArray from = {.length = 4, .null_count = 1, .offset = 1, .n_buffers = 2, .buffers = buffers};
  const Options fahrenheit = {0, 1.8, 32.0};
  struct ArrowArray to;
  expect(convert(&fahrenheit, &from, &to), "a column is converted");
  const double *converted = to.buffers[1];
  expect(to.length == 4 && to.offset == 0 && to.null_count == 2, "it has as many rows");
  expect(converted[0] == 32.0 && converted[2] == 212.0, "values are multiplied, then added to");
  expect(!is_null(&to, 0) && is_null(&to, 1) && !is_null(&to, 2), "null stays null");
  expect(is_null(&to, 3), "what no number can hold is null");
  to.release(&to);

  struct ArrowSchema value = {.format = "g", .name = "value"}, text = {.format = "u", .name = "text"};
  struct ArrowSchema *fields[] = {&text, &value};
  struct ArrowSchema columns = {.format = "+s", .n_children = 2, .children = fields}, given;
  expect(find(&columns, "value") == 1 && find(&columns, "valeu") == -1, "a column is found by its name");
  expect(copy_schema(&columns, 1, &given) && given.children[1]->flags == ARROW_FLAG_NULLABLE, "the column may be null now");
  given.release(&given);
  return failed != 0;
}

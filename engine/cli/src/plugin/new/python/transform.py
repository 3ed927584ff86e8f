"""`heartbeat`: a column in another unit."""

import math

import pyarrow as pa

from pipeline_plugin import ConfigError, Transform, option


class Heartbeat(Transform):
    """Gives every row on with one of its columns in another unit: `value × factor + offset`.

    What is null stays null; a result that no number can hold becomes null.
    """

    name = "heartbeat"
    example = """
        fahrenheit:
          type: heartbeat
          inputs: [readings]
          column: value
          factor: 1.8
          offset: 32
    """

    column: str = option(..., "The column, a float.")
    factor: float = option(1.0, "What its values are multiplied with.")
    offset: float = option(0.0, "What is added afterwards.")

    def schema(self, inputs):
        columns = inputs[0]
        self.number = columns.get_field_index(self.column)
        if self.number < 0:
            raise ConfigError(f"there is no column `{self.column}`", "column")
        if columns.field(self.number).type != pa.float64():
            found = columns.field(self.number).type
            raise ConfigError(f"column `{self.column}` is {found}, it must be a float", "column")
        self.columns = columns.set(self.number, pa.field(self.column, pa.float64(), nullable=True))
        return self.columns

    def process(self, input, batch, out):
        converted = [self.convert(value) for value in batch.column(self.number).to_pylist()]
        arrays = batch.columns
        arrays[self.number] = pa.array(converted, pa.float64())
        out.emit(pa.RecordBatch.from_arrays(arrays, schema=self.columns))

    def convert(self, value):
        if value is None:
            return None
        result = value * self.factor + self.offset
        return result if math.isfinite(result) else None

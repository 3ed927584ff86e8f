//! What an expression is compiled to, and how that is computed over a batch.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, RecordBatch, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::types::Type;

/// Computes an operator or a function for all rows of a batch.
///
/// It must look at each row alone: batches may be cut anywhere. What cannot be computed for a row is null there.
pub(super) type Kernel = Arc<dyn Fn(&Arguments) -> Result<ArrayRef, ArrowError> + Send + Sync>;

/// A compiled expression; its depth is bounded by the binder, so that recursion is safe.
#[derive(Clone)]
pub(super) enum Node {
    Column {
        index: usize,
        name: String,
        data_type: DataType,
    },
    /// An array of one row.
    Constant(ArrayRef),
    Call {
        kernel: Kernel,
        arguments: Vec<Node>,
    },
}

/// An array of a batch's length, or a constant: an array of one row that stands for all.
pub(super) struct Operand {
    pub array: ArrayRef,
    pub is_constant: bool,
}

impl Datum for Operand {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.is_constant)
    }
}

impl Operand {
    /// An array with as many rows as the batch.
    pub fn rows(array: ArrayRef) -> Self {
        Operand { array, is_constant: false }
    }

    /// The values of all rows, a constant being repeated.
    pub fn expanded(&self, n_rows: usize) -> Result<ArrayRef, ArrowError> {
        if !self.is_constant {
            return Ok(Arc::clone(&self.array));
        }
        if n_rows == 0 {
            return Ok(new_empty_array(self.array.data_type()));
        }
        if self.array.is_null(0) {
            return Ok(new_null_array(self.array.data_type(), n_rows));
        }
        take(&self.array, &UInt32Array::from(vec![0; n_rows]), None)
    }
}

/// What a kernel is given.
pub(super) struct Arguments {
    pub operands: Vec<Operand>,
    /// The length of the array it must give.
    pub n_rows: usize,
}

impl Arguments {
    /// The values of all rows of one argument.
    pub fn expanded(&self, index: usize) -> Result<ArrayRef, ArrowError> {
        self.operands[index].expanded(self.n_rows)
    }
}

impl Node {
    /// Calls a kernel; at once if all its arguments are constants, which is the same since kernels are pure.
    pub fn call(kernel: Kernel, arguments: Vec<Node>) -> Result<Node, ArrowError> {
        let constants: Option<Vec<&ArrayRef>> = arguments.iter().map(Node::constant).collect();
        let Some(constants) = constants else {
            return Ok(Node::Call { kernel, arguments });
        };
        let operands = constants.into_iter().map(|array| Operand::rows(Arc::clone(array))).collect();
        Ok(Node::Constant(kernel(&Arguments { operands, n_rows: 1 })?))
    }

    /// The array of one row, if this is known without a batch.
    pub fn constant(&self) -> Option<&ArrayRef> {
        match self {
            Node::Constant(array) => Some(array),
            Node::Column { .. } | Node::Call { .. } => None,
        }
    }

    /// Computes it; an error means that the batch has not the schema the expression was compiled for.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Operand, ArrowError> {
        match self {
            Node::Column { index, name, data_type } => Ok(Operand::rows(column(batch, *index, name, data_type)?)),
            Node::Constant(array) => Ok(Operand { array: Arc::clone(array), is_constant: true }),
            Node::Call { kernel, arguments } => {
                let operands: Result<_, _> = arguments.iter().map(|argument| argument.evaluate(batch)).collect();
                let array = kernel(&Arguments { operands: operands?, n_rows: batch.num_rows() })?;
                Ok(Operand::rows(array))
            }
        }
    }
}

fn column(batch: &RecordBatch, index: usize, name: &str, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let schema = batch.schema_ref();
    let is_there = schema.fields().get(index).is_some_and(|field| field.name() == name);
    if !is_there {
        return Err(ArrowError::SchemaError(format!("column {index} of the rows is not `{name}`")));
    }
    let array = batch.column(index);
    let found = array.data_type();
    if found != data_type {
        return Err(ArrowError::SchemaError(format!("column `{name}` is {found}, expected {data_type}")));
    }
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        // Timestamps of other zones count the same microseconds; only their type changes.
        Some(timestamps) => Ok(Arc::new(timestamps.clone().with_timezone("UTC"))),
        None => Ok(Arc::clone(array)),
    }
}

/// A compiled part of an expression with what is known about it.
#[derive(Clone)]
pub(super) struct Typed {
    pub node: Node,
    pub data_type: Type,
    pub is_nullable: bool,
    /// Its bytes in the text.
    pub span: Range<usize>,
    /// The levels of its tree.
    pub depth: usize,
}

/// When a call gives null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// Never.
    Never,
    /// When an argument is null.
    OfAny,
    /// When all arguments are null.
    OfAll,
    /// Also when there is no result, such as for a division by zero.
    Possible,
}

/// An operator or a function for arguments of known types.
pub(super) struct Operation {
    pub data_type: Type,
    pub nulls: Nulls,
    pub kernel: Kernel,
}

impl Operation {
    /// An operation with this kernel.
    pub fn new<K>(data_type: Type, nulls: Nulls, kernel: K) -> Self
    where
        K: Fn(&Arguments) -> Result<ArrayRef, ArrowError> + Send + Sync + 'static,
    {
        Operation { data_type, nulls, kernel: Arc::new(kernel) }
    }

    /// Applies it to arguments of the types it was made for.
    pub fn apply(self, arguments: Vec<Typed>, span: Range<usize>) -> Result<Typed, ArrowError> {
        let is_nullable = match self.nulls {
            Nulls::Never => false,
            Nulls::OfAny => arguments.iter().any(|argument| argument.is_nullable),
            Nulls::OfAll => arguments.iter().all(|argument| argument.is_nullable),
            Nulls::Possible => true,
        };
        let depth = 1 + arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        let node = Node::call(self.kernel, arguments.into_iter().map(|argument| argument.node).collect())?;
        let is_nullable = match node.constant() {
            Some(array) => array.is_null(0),
            None => is_nullable,
        };
        Ok(Typed { node, data_type: self.data_type, is_nullable, span, depth })
    }
}

impl Typed {
    /// A value that is the same for all rows, as an array of one row.
    pub fn constant(array: ArrayRef, data_type: Type, span: Range<usize>) -> Self {
        Typed { is_nullable: array.is_null(0), node: Node::Constant(array), data_type, span, depth: 1 }
    }

    /// True for the literal `NULL`.
    pub fn is_null_literal(&self) -> bool {
        self.data_type == Type::Null
    }
}

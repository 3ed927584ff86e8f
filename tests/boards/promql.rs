//! Which labels the result of a query has, as PromQL defines it; and whether all that it names exists.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_dashboard::{Metric, Type};
use promql_parser::parser::token::{T_LOR, T_LUNLESS};
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, parse,
};

type Labels = BTreeSet<String>;

/// What Prometheus puts on every time series that it scrapes.
const OF_TARGET: [&str; 2] = ["instance", "job"];

/// The time series there are, with their labels.
pub struct Names(BTreeMap<String, Labels>);

impl Names {
    /// Of our metrics, and `up`, which Prometheus makes itself.
    pub fn of(metrics: &[Metric], key: Vec<String>) -> Self {
        let mut names = BTreeMap::from([("up".to_owned(), labels(OF_TARGET))]);
        for metric in metrics {
            let mut of_metric = labels(OF_TARGET);
            for label in metric.labels {
                match *label {
                    "(the key's columns)" => of_metric.extend(key.iter().cloned()),
                    label => drop(of_metric.insert(label.into())),
                }
            }
            match metric.kind {
                Type::Counter | Type::Gauge => drop(names.insert(metric.name.into(), of_metric)),
                Type::Histogram => {
                    let with_limit = of_metric.iter().cloned().chain(["le".into()]).collect();
                    names.insert(format!("{}_bucket", metric.name), with_limit);
                    names.insert(format!("{}_sum", metric.name), of_metric.clone());
                    names.insert(format!("{}_count", metric.name), of_metric);
                }
            }
        }
        Names(names)
    }
}

fn labels<'a>(names: impl IntoIterator<Item = &'a str>) -> Labels {
    names.into_iter().map(str::to_owned).collect()
}

/// The labels of a query's result.
///
/// # Errors
/// All that is named and does not exist.
pub fn labels_of(query: &str, names: &Names) -> Result<Labels, Vec<String>> {
    let expression = parse(query).map_err(|error| vec![error])?;
    let mut checked = Checked { names, mistakes: Vec::new() };
    let labels = checked.labels(&expression);
    if checked.mistakes.is_empty() { Ok(labels) } else { Err(checked.mistakes) }
}

struct Checked<'a> {
    names: &'a Names,
    mistakes: Vec<String>,
}

impl Checked<'_> {
    fn labels(&mut self, expression: &Expr) -> Labels {
        match expression {
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Unary(unary) => self.labels(&unary.expr),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Paren(paren) => self.labels(&paren.expr),
            Expr::Subquery(subquery) => self.labels(&subquery.expr),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Labels::new(),
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Call(call) => self.call(call),
            Expr::Extension(_) => Labels::new(),
        }
    }

    fn selector(&mut self, selector: &VectorSelector) -> Labels {
        let name = selector.name.clone().unwrap_or_default();
        let Some(labels) = self.names.0.get(&name).cloned() else {
            self.mistakes.push(format!("there is no metric `{name}`"));
            return Labels::new();
        };
        for matcher in selector.matchers.matchers.iter().filter(|matcher| !labels.contains(&matcher.name)) {
            self.mistakes.push(format!("`{name}` has no label `{}`", matcher.name));
        }
        labels
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> Labels {
        let inner = self.labels(&aggregate.expr);
        match &aggregate.modifier {
            None => Labels::new(),
            Some(LabelModifier::Include(by)) => self.known("by", &by.labels, &inner),
            Some(LabelModifier::Exclude(without)) => {
                let without = self.known("without", &without.labels, &inner);
                inner.difference(&without).cloned().collect()
            }
        }
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Labels {
        let (left, right) = (self.labels(&binary.lhs), self.labels(&binary.rhs));
        if binary.op.id() == T_LOR {
            return left.union(&right).cloned().collect();
        }
        let is_number = |side: &Expr| matches!(side, Expr::NumberLiteral(_));
        let Some(modifier) = &binary.modifier else {
            return if is_number(&binary.lhs) { right } else { left };
        };
        let mut result = if is_number(&binary.lhs) { right.clone() } else { left.clone() };
        if let Some(LabelModifier::Include(on)) = &modifier.matching {
            let both = left.intersection(&right).cloned().collect();
            let on = self.known("on", &on.labels, &both);
            let is_filter = binary.op.id() == T_LUNLESS || binary.op.is_set_operator();
            if !is_filter && modifier.card == VectorMatchCardinality::OneToOne {
                result = on;
            }
        }
        if let VectorMatchCardinality::ManyToOne(with) = &modifier.card {
            result.extend(self.known("group_left", &with.labels, &right));
        }
        result
    }

    fn call(&mut self, call: &Call) -> Labels {
        let of_args: Vec<Labels> = call.args.args.iter().map(|arg| self.labels(arg)).collect();
        let mut result: Labels = of_args.into_iter().flatten().collect();
        match call.func.name {
            "histogram_quantile" => drop(result.remove("le")),
            "label_replace" => {
                if let Some(Expr::StringLiteral(made)) = call.args.args.get(1).map(AsRef::as_ref) {
                    result.insert(made.val.clone());
                }
            }
            _ => {}
        }
        result
    }

    /// These labels; those that there are not are noted.
    fn known(&mut self, word: &str, wanted: &[String], there: &Labels) -> Labels {
        for label in wanted.iter().filter(|label| !there.contains(*label)) {
            self.mistakes.push(format!("no label `{label}` for `{word}`"));
        }
        wanted.iter().cloned().collect()
    }
}

//! State that was saved under other options: a stage goes on with it, or refuses it in words.

use pipeline_stage::{ErrorKind, StageType};
use serde_json::{Value, json};

use crate::broken::{Broken, says_why};
use crate::laws::Effort;
use crate::readings::readings;
use crate::scores::Said;
use crate::subject::{Store, Subject};

/// Enough that the windows of the readings' busy series are full.
const ROWS: usize = 4_000;

/// What was tried.
#[derive(Default)]
struct Tried {
    options: usize,
    went_on: usize,
    refused: usize,
}

/// Checks, for every option that is a number, that state saved under one value can be resumed under another, within
/// the limits of the schema: the stage goes on and is not silent after enough rows, or it refuses in words. Gives
/// what was tried, in words.
///
/// # Errors
/// With the option and both values, when it does not; and when no option could be changed at all though there is one.
pub fn options_may_change(subject: Subject<'_>, effort: Effort) -> Result<String, Broken> {
    let numbers = numbers(subject.stage, subject.options);
    let mut tried = Tried::default();
    for number in &numbers {
        let went_on_or_refused = tried.went_on + tried.refused;
        let few = if effort == Effort::Brief { 1 } else { number.others.len() };
        // The smallest one comes first: most that goes wrong does so when a window gets smaller.
        for other in number.others.iter().take(few) {
            for (saved_under, resumed_under) in [(&number.usual, other), (other, &number.usual)] {
                let of = |value: &Value| {
                    let mut options = subject.options.clone();
                    options[&number.option] = value.clone();
                    options
                };
                let about = format!("`{}` {saved_under} → {resumed_under}", number.option);
                change(subject, &of(saved_under), &of(resumed_under), &mut tried)
                    .map_err(|broken| broken.about(about))?;
            }
        }
        tried.options += usize::from(went_on_or_refused < tried.went_on + tried.refused);
    }
    let Tried { options, went_on, refused } = tried;
    match (numbers.len(), options) {
        (0, _) => Ok("no option is a number".into()),
        (n, 0) => Err(Broken::new(format!(
            "none of {n} options could be changed: the schema has to say their limits (`minimum`, `maximum`)"
        ))),
        _ => Ok(format!("{options} options, resumed {went_on} times, refused in words {refused} times")),
    }
}

fn change(subject: Subject<'_>, before: &Value, after: &Value, tried: &mut Tried) -> Result<(), Broken> {
    let (first, then) = (readings(5, ROWS), readings(6, ROWS));
    let columns = first.schema();
    let (before, after) = (subject.with(before), subject.with(after));
    // Options may exclude each other (a minimum above the window): then there is nothing to be resumed.
    let (Ok(mut saving), Ok(mut fresh)) =
        (before.try_build(&columns, &Store::default())?, after.try_build(&columns, &Store::default())?)
    else {
        return Ok(());
    };
    let mut store = Store::default();
    Said::of(&mut *saving, &first)?;
    store.take(&mut *saving)?;
    let mut resumed = match after.try_build(&columns, &store)? {
        Ok(resumed) => resumed,
        Err(error) => {
            says_why(&error)?;
            tried.refused += 1;
            return match error.kind() {
                ErrorKind::Config | ErrorKind::Fatal => Ok(()),
                kind => Err(Broken::new(format!(
                    "state is refused with an error of kind {kind:?}, it must be Config or Fatal"
                ))),
            };
        }
    };
    let expected = Said::of(&mut *fresh, &then)?;
    Said::of(&mut *resumed, &then)?.is_not_silent(&expected)?;
    tried.went_on += 1;
    Ok(())
}

/// An option that is a number, with other values that it may have.
struct Number {
    option: String,
    usual: Value,
    others: Vec<Value>,
}

fn numbers(stage: &StageType, options: &Value) -> Vec<Number> {
    let schema = stage.schema.as_value();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(option, about)| number(option, about, options.get(option))).collect()
}

fn number(option: &str, about: &Value, given: Option<&Value>) -> Option<Number> {
    let is_of = |name: &str| match about.get("type") {
        Some(Value::Array(names)) => names.iter().any(|of| of == name),
        Some(of) => of == name,
        None => false,
    };
    let is_whole = is_of("integer");
    if !is_whole && !is_of("number") {
        return None;
    }
    let limit = |name: &str| about.get(name).and_then(Value::as_f64);
    let step = if is_whole { 1.0 } else { f64::EPSILON };
    let least = limit("minimum").or(limit("exclusiveMinimum").map(|least| least + step));
    let greatest = limit("maximum").or(limit("exclusiveMaximum").map(|greatest| greatest - step));
    let usual = given.or(about.get("default")).and_then(Value::as_f64).or(least).unwrap_or(8.0);
    // Not the greatest: it is there to be reached on large machines.
    let near = [least.unwrap_or(usual / 4.0), usual / 2.0, usual + 1.0, usual * 2.0];
    let mut others: Vec<Value> = Vec::new();
    for value in near {
        let value = if is_whole { value.round() } else { value };
        let is_inside = least.is_none_or(|least| least <= value) && greatest.is_none_or(|greatest| value <= greatest);
        let value = as_json(value, is_whole);
        if is_inside && !others.contains(&value) && value != as_json(usual, is_whole) {
            others.push(value);
        }
    }
    Some(Number { option: option.into(), usual: as_json(usual, is_whole), others })
}

fn as_json(value: f64, is_whole: bool) -> Value {
    if is_whole { json!(value as i64) } else { json!(value) }
}

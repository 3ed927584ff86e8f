//! Plans of small made-up stages.

mod above;
mod plugins;
mod stages;

pub(crate) use stages::registry;

use std::path::Path;

use pipeline_stage::{ColumnFrom, ColumnType};
use serde_json::json;

use super::*;
use crate::diagnostics::Report;

const GOOD: &str = r#"
name: iot
key: [sensor_id]
sources:
  readings:
    type: numbers
    rate: 200 per second
detectors:
  jumps: { type: jump, inputs: readings, value: value, when: value > 3 }
sinks:
  history: { type: table, inputs: readings, url: "${URL}", table: data }
  alerts: { type: post, inputs: [jumps], when: is_anomaly, url: "http://x/${TOKEN}", port: "${PORT:-80}" }
profiles:
  production:
    commit_every: 1s
    sources:
      readings:
        type: lines
        topic: iot
        format: words
        schema: { sensor_id: string, value: { type: float, from: data.value }, at: { meta: time } }
  quiet:
    sinks: { alerts: ~ }
    detectors: { jumps: ~ }
"#;

fn options() -> LoadOptions {
    let environment = Environment::default().with("URL", "0123").with("TOKEN", "hush");
    LoadOptions { environment, ..LoadOptions::default() }
}

fn plan_of(text: &str, options: &LoadOptions) -> Result<(Plan, Report), Report> {
    load_text("iot.yaml", text, Path::new("."), options, &registry())
}

fn good(options: &LoadOptions) -> Plan {
    match plan_of(GOOD, options) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{}", report.render(false)),
    }
}

/// What is said of a file that is wrong.
fn said(text: &str) -> String {
    plan_of(text, &options()).err().map(|report| report.render(false)).unwrap_or_default()
}

#[test]
fn a_good_file_becomes_a_plan() {
    let plan = good(&options());
    let ids: Vec<&str> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(ids, ["readings", "jumps", "history", "alerts"]);
    assert_eq!(plan.stages[1].inputs, [0]);
    assert_eq!(plan.stages[3].inputs, [1]);
    assert_eq!(plan.stages[3].when.len(), 1);
    assert_eq!(plan.stages[1].schema.fields().len(), 8);
    // A secret that looks like a number stays text, an option that is a number becomes one.
    assert_eq!(plan.stages[2].options, json!({ "url": "0123", "table": "data" }));
    assert_eq!(plan.stages[3].options, json!({ "url": "http://x/hush", "port": 80 }));
    assert_eq!(plan.settings.state, ".pipeline/iot");
}

#[test]
fn a_profile_that_changes_the_type_drops_the_old_options() {
    let plan = good(&LoadOptions { profile: Some("production".into()), ..options() });
    assert_eq!(plan.settings.commit_every, Duration::from_secs(1));
    assert_eq!(plan.stages[0].options, json!({ "topic": "iot" }));
    let source = plan.stages[0].source.as_ref().unwrap();
    assert_eq!(source.format.as_ref().unwrap().0, "words");
    assert_eq!(source.columns[1].from, ColumnFrom::Field(vec!["data".into(), "value".into()]));
    assert_eq!(source.columns[2].column_type, ColumnType::Timestamp);
    assert!(source.columns[2].nullable && !source.columns[1].nullable);
}

#[test]
fn a_source_is_told_the_name_of_the_process_where_the_file_gives_none() {
    let production = |set: &[&str]| {
        let set = set.iter().map(|set| set.to_string()).collect();
        good(&LoadOptions { profile: Some("production".into()), set, ..options() })
    };
    let run = RunSettings::default();
    let unnamed = production(&[]);
    assert_eq!((unnamed.unnamed_process(0), unnamed.unnamed_process(1)), (Some("instance"), None));
    assert!(unnamed.build_source(0, &run, None).is_ok());
    let told = unnamed.build_source(0, &run, Some("a name")).err().expect("blanks are refused");
    assert_eq!(told.to_string(), "a name has no blanks");
    let named = production(&["sources.readings.instance=mine"]);
    assert_eq!(named.unnamed_process(0), None);
    assert!(named.build_source(0, &run, Some("a name")).is_ok());
}

#[test]
fn null_removes_a_stage() {
    let plan = good(&LoadOptions { profile: Some("quiet".into()), ..options() });
    let ids: Vec<&str> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(ids, ["readings", "history"]);
}

#[test]
fn arguments_change_more_than_the_environment_and_that_more_than_the_file() {
    let mut options = options();
    options.environment = options.environment.with("PIPELINE__DETECTORS__JUMPS__WINDOW", "5");
    options.environment = options.environment.with("PIPELINE__DETECTORS__JUMPS__THRESHOLD", "5");
    options.set = vec!["detectors.jumps.window=7".into(), "key=[sensor_id, value]".into()];
    let plan = good(&options);
    assert_eq!(plan.stages[1].options, json!({ "value": "value", "window": 7, "threshold": 5 }));
    assert_eq!(plan.settings.key, ["sensor_id", "value"]);
}

#[test]
fn the_definition_holds_references_and_gives_the_same_plan() {
    let text = GOOD.replace("\"${URL}\"", "postgres://u:secret@h/d");
    let plan = plan_of(&text, &options()).ok().unwrap().0;
    assert!(!plan.definition.contains("hush") && !plan.definition.contains("u:secret@"), "{}", plan.definition);
    let again = load_definition(&plan.definition, &plan, options().environment).ok().unwrap();
    for (stage, before) in again.stages.iter().zip(&plan.stages) {
        assert_eq!((&stage.id, &stage.options, &stage.inputs), (&before.id, &before.options, &before.inputs));
    }
    assert_eq!(again.settings.key, plan.settings.key);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"
name: iot
key: [sensor_id]
comit_every: 1s
sources:
  readings: { type: numbers, rate: fast }
detectors:
  jumps:
    type: jump
    inputs: readings
    value: valeu
    windw: 30
    window: x
    threshold: high
    direction: up
    pause: 3
sinks:
  history: { type: table, inputs: [reading], url: postgres://u:hush@h/d, tabel: data }
"#;
    let said = said(text);
    for words in [
        "unknown key `comit_every`",
        "did you mean `commit_every`?",
        "`fast` is not a rate",
        "no column `valeu` reaches `jumps`",
        "`readings` gives: sensor_id (string), value (float)",
        "unknown option `windw` of detector `jump`",
        "`window` is the text `x`, it must be a whole number from 2 to 10,000",
        "`threshold` is the text `high`, it must be a number",
        "`direction` is the text `up`, it must be `both`, `above` or `below`",
        "`3` is not a duration",
        "no stage is called `reading`",
        "did you mean `readings`?",
        "unknown option `tabel` of sink `table`",
    ] {
        assert!(said.contains(words), "{words}\n\n{said}");
    }
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn one_mistake_does_not_hide_the_next_of_the_same_stage() {
    let said = said(&GOOD.replace("value: value,", "value: value, window: 13, threshold: -1,"));
    assert!(said.contains("`window` is 13, it must be lucky"), "{said}");
    assert!(said.contains("`threshold` is below 0"), "{said}");
    assert!(said.ends_with("2 errors\n"), "{said}");
}

#[test]
fn another_type_keeps_edges_and_format_but_no_options() {
    let text = r#"
name: iot
sources:
  readings: { type: lines, topic: a, client: { x: y }, tasks: 2, format: { type: words, separator: "," }, schema: { value: float } }
sinks:
  out: { type: table, inputs: readings, when: value > 1, url: x, table: t, columns: [value] }
profiles:
  own_columns:
    sources: { readings: { type: numbers } }
  other_sink:
    sinks: { out: { type: post, url: y } }
"#;
    let with = |name: &str| LoadOptions { profile: Some(name.into()), ..LoadOptions::default() };
    let plan = plan_of(&text.replace("tasks: 2, ", ""), &with("own_columns")).ok().unwrap().0;
    let source = plan.stages[0].source.as_ref().unwrap();
    assert!(source.format.is_none() && source.columns.is_empty(), "what the old type needed is not missed");
    assert_eq!(plan.stages[0].options, json!({}));
    let plan = plan_of(&text.replace("tasks: 2, ", ""), &with("other_sink")).ok().unwrap().0;
    assert_eq!(plan.stages[1].options, json!({ "url": "y" }));
    assert_eq!(plan.stages[1].when.len(), 1);
    assert_eq!(plan.stages[0].source.as_ref().unwrap().format, Some(("words".into(), json!({ "separator": "," }))));
}

#[test]
fn dotenv_files_never_override_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(".env"),
        "URL=from-file\nTOKEN=\"a b\" # c\nPIPELINE__DETECTORS__JUMPS__WINDOW=9\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("iot.yaml"), GOOD).unwrap();
    let environment = Environment::default().with("URL", "from-environment");
    let options = LoadOptions { environment, ..LoadOptions::default() };
    let plan = load(&folder.path().join("iot.yaml"), &options, &registry()).ok().unwrap().0;
    assert_eq!(plan.stages[2].options["url"], "from-environment");
    assert_eq!(plan.stages[3].options["url"], "http://x/a b");
    assert_eq!(plan.stages[1].options["window"], 9);
    assert!(std::env::var_os("TOKEN").is_none(), "the process keeps its own environment");
}

#[test]
fn secrets_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hush\n").unwrap();
    let text = GOOD.replace("${URL}", "${file:secret}");
    let (plan, _) = load_text("iot.yaml", &text, folder.path(), &options(), &registry()).ok().unwrap();
    assert_eq!(plan.stages[2].options["url"], "hush");
    assert!(!plan.definition.contains("hush"), "{}", plan.definition);
}

/// Small steps of a generator, to spoil a file in always the same ways.
struct Steps(u64);

impl Steps {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn whatever_is_in_a_file_it_is_explained_at_a_place_that_exists() {
    let pieces =
        ["${", "}", "{", "]", ": ", "\t", "~", "\n", "é", "- ", "'", "\"", "*a", "&a ", "!!x ", "|", "9e999", "#"];
    let mut steps = Steps(7);
    let mut n_wrong = 0;
    let good = GOOD.replace("${URL}", "postgres://user:hush@host/data");
    for _ in 0..1_000 {
        let mut text: Vec<char> = good.chars().collect();
        for _ in 0..1 + steps.below(3) {
            let at = steps.below(text.len());
            match steps.below(3) {
                0 => drop(text.remove(at)),
                1 => drop(text.splice(at..at, pieces[steps.below(pieces.len())].chars())),
                _ => text.swap(at, (at + 1).min(good.len() / 2)),
            }
        }
        let text: String = text.into_iter().collect();
        let Err(report) = plan_of(&text, &options()) else { continue };
        n_wrong += 1;
        assert!(report.has_errors(), "{text}");
        let shown = format!("{}{}", report.render(false), report.to_json());
        assert!(!shown.contains("hush") || !text.contains("postgres://user:hush@"), "{text}\n{shown}");
        for label in report.diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
            let source = report.sources[label.place.source].text();
            assert!(source.get(label.place.range.clone()).is_some(), "{:?} of {text}", label.place);
        }
    }
    assert!(300 < n_wrong, "only {n_wrong} files were wrong");
}

//! The boards and alert rules in `docker/` ask for metrics and labels that there are, and `promtool` takes the rules.

mod promql;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipeline_runtime::file::{LoadOptions, PipelineFile};
use serde_json::Value;

use promql::{Names, labels_of};

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &Path) -> Value {
    let options = LoadOptions::default();
    let parsed = PipelineFile::parse(&path.display().to_string(), &text(path), Path::new("."), &options);
    parsed.unwrap_or_else(|report| panic!("{}", report.render(false))).root.to_json()
}

/// What there is: the columns of the key are those of `pipelines/iot.yaml`, which the boards are made for.
fn names() -> Names {
    let key = yaml(&docker().join("../pipelines/iot.yaml"))["key"].clone();
    let key = key.as_array().expect("a list").iter().map(|column| column.as_str().expect("a name").to_owned());
    Names::of(pipeline_dashboard::METRICS, key.collect())
}

fn boards() -> Vec<(String, Value)> {
    let folder = docker().join("grafana/dashboards");
    let entries =
        std::fs::read_dir(&folder).expect("the folder of boards").map(|entry| entry.expect("an entry").path());
    let mut boards: Vec<(String, Value)> = entries
        .map(|path| {
            let board =
                serde_json::from_str(&text(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().expect("a name").to_string_lossy().into_owned(), board)
        })
        .collect();
    boards.sort_by(|(a, _), (b, _)| a.cmp(b));
    boards
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The panels that show something.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(board, "panels").iter().filter(|panel| panel["type"] != "row")
}

fn string<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {value}"))
}

/// The names in `{{name}}`, or in `{{ $labels.name }}`.
fn shown(text: &str) -> impl Iterator<Item = &str> {
    let holes = text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()));
    holes.filter_map(|hole| match hole.strip_prefix('$') {
        Some(variable) => variable.strip_prefix("labels."),
        None => Some(hole),
    })
}

/// What is wrong with a query and with the texts that show labels of its result.
fn mistakes(names: &Names, query: &str, texts: &[&str]) -> Vec<String> {
    // What Grafana puts in before it asks.
    let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h");
    let labels = match labels_of(&query, names) {
        Ok(labels) => labels,
        Err(mistakes) => return mistakes.into_iter().map(|mistake| format!("{mistake} in `{query}`")).collect(),
    };
    let unknown = texts.iter().flat_map(|text| shown(text)).filter(|label| !labels.contains(*label));
    unknown.map(|label| format!("`{label}` is shown, but `{query}` gives {labels:?}")).collect()
}

#[test]
fn boards_ask_for_metrics_and_labels_that_there_are() {
    let (names, mut found, mut queries) = (names(), Vec::new(), 0);
    for (file, board) in boards() {
        for panel in panels(&board) {
            for target in list(panel, "targets") {
                queries += 1;
                let wrong = mistakes(&names, string(target, "expr"), &[string(target, "legendFormat")]);
                found.extend(wrong.into_iter().map(|wrong| format!("{file}, {}: {wrong}", panel["title"])));
            }
        }
        for variable in list(&board["templating"], "list").iter().filter(|variable| variable["type"] == "query") {
            let query = string(&variable["query"], "query");
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inner.and_then(|inner| inner.split_once(", ")).expect("label_values(metric, label)");
            let wrong = mistakes(&names, metric, &[&format!("{{{{{label}}}}}")]);
            found.extend(wrong.into_iter().map(|wrong| format!("{file}, variable: {wrong}")));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(50 < queries, "only {queries} queries");
}

#[test]
fn rules_ask_for_metrics_and_labels_that_there_are() {
    let (names, rules) = (names(), yaml(&docker().join("prometheus/alerts.yml")));
    let mut count = 0;
    for rule in list(&rules, "groups").iter().flat_map(|group| list(group, "rules")) {
        let texts = ["summary", "description"].map(|name| string(&rule["annotations"], name));
        assert_eq!(mistakes(&names, string(rule, "expr"), &texts), [""; 0], "{}", rule["alert"]);
        count += 1;
    }
    assert!(10 <= count, "only {count} rules");
}

#[test]
fn every_metric_is_on_a_board() {
    let boards: String = boards().iter().map(|(_, board)| board.to_string()).collect();
    let missing = pipeline_dashboard::METRICS.iter().filter(|metric| !boards.contains(metric.name));
    assert_eq!(missing.map(|metric| metric.name).collect::<Vec<_>>(), [""; 0]);
}

/// Panels that every Grafana has.
const PANELS: [&str; 5] = ["bargauge", "stat", "state-timeline", "table", "timeseries"];

#[test]
fn every_panel_has_a_unit_and_a_place_and_needs_no_plugin() {
    for (file, board) in boards() {
        let mut ids = BTreeSet::new();
        assert!(list(&board, "panels").iter().all(|panel| ids.insert(panel["id"].as_i64())), "{file}: ids twice");
        let mut taken = BTreeSet::new();
        for panel in panels(&board) {
            let title = string(panel, "title");
            assert!(PANELS.contains(&string(panel, "type")), "{file}: {title} is a {}", panel["type"]);
            assert!(!string(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{file}: {title}");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().expect("a number"));
            assert!(x + w <= 24, "{file}: {title} is too wide");
            let places = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            assert!(places.into_iter().all(|place| taken.insert(place)), "{file}: {title} lies on another panel");
        }
    }
}

#[test]
fn a_wrong_name_is_found() {
    let names = names();
    for (query, legend, wrong) in [
        ("sum(messages_processed_totl)", "", "there is no metric `messages_processed_totl`"),
        ("processing_latency_seconds_bukket", "", "there is no metric `processing_latency_seconds_bukket`"),
        ("processing_latency_seconds", "", "there is no metric `processing_latency_seconds`"),
        ("pipeline_lag_rows{stage=\"x\"}", "", "`pipeline_lag_rows` has no label `stage`"),
        ("sum by (stage) (pipeline_lag_rows)", "", "no label `stage` for `by`"),
        ("sum by (task) (sum(pipeline_lag_rows))", "", "no label `task` for `by`"),
        ("pipeline_lag_rows / on (task) pipeline_tasks", "", "no label `task` for `on`"),
        ("sum(pipeline_lag_rows)", "{{task}}", "`task` is shown"),
        ("sum(pipeline_lag_rows", "", "unclosed"),
    ] {
        let found = mistakes(&names, query, &[legend]);
        assert!(found.iter().any(|found| found.contains(wrong)), "{query}: {found:?}");
    }
    assert_eq!(
        mistakes(&names, "sum by (le) (rate(processing_latency_seconds_bucket[$__range]))", &["{{le}}"]),
        [""; 0]
    );
}

/// Runs `promtool` on the rules, and gives what it says.
fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool").args(args).current_dir(docker().join("prometheus")).output();
    let output = output.unwrap_or_else(|error| {
        panic!("`promtool` is missing ({error}): it is part of Prometheus, on Debian of the package `prometheus`")
    });
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {}:\n{said}", args.join(" "));
    said
}

#[test]
fn promtool_takes_the_rules_and_the_configuration() {
    assert!(promtool(&["check", "rules", "alerts.yml"]).contains("rules found"));
    assert!(promtool(&["check", "config", "prometheus.yml"]).contains("SUCCESS"));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let tests = text(&docker().join("prometheus/alerts_test.yml"));
    let rules = yaml(&docker().join("prometheus/alerts.yml"));
    for rule in list(&rules, "groups").iter().flat_map(|group| list(group, "rules")) {
        let named = tests.matches(string(rule, "alert")).count();
        assert!(2 <= named, "{} is tested {named} times: once silent, once firing", rule["alert"]);
    }
    assert!(promtool(&["test", "rules", "alerts_test.yml"]).contains("SUCCESS"));
}

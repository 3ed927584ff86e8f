//! The views of the page in a real browser, on a pipeline with several detectors, keys that no float holds, and two columns
//! of times.

use std::fmt::Write;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pipeline_services::{Browser, HttpReceiver, PipelineRun, RunningPipeline, breaks_wcag};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::page::{pictures, shows, url_of};
use crate::production::{everything_loaded, pipeline, pipeline_slim};

const LONG: Duration = Duration::from_secs(60);
/// Two machines whose numbers are one float.
const MACHINES: [i64; 2] = [9_007_199_254_740_992, 9_007_199_254_740_993];

const FILE: &str = r#"
name: hall
key: [machine]
state: state
sources:
  readings:
    type: file
    path: readings.jsonl
    follow: true
    format: json
    schema: { received: timestamp, machine: integer, heat: float, level: float, at: timestamp }
detectors:
  hot: { type: zscore, inputs: readings, value: heat, time: at }
  low: { type: zscore, inputs: readings, value: level, time: at, prefix: low_ }
  wet: { type: zscore, inputs: readings, value: level, time: at, prefix: wet_ }
sinks:
  history: { type: sqlite, inputs: readings, path: hall.db, table: readings }
  marks: { type: sqlite, inputs: hot, path: hall.db, table: marks, when: is_anomaly }
  alerts: { type: slack, inputs: low, when: low_is_anomaly, webhook_url: 'SLACK', dashboard_url: 'http://127.0.0.1:1', rate: 1000 per second }
  nowhere: { type: discard, inputs: wet }
"#;

/// A pipeline that runs, and what it reads.
struct World {
    folder: TempDir,
    slack: HttpReceiver,
    url: String,
    _running: RunningPipeline,
}

impl World {
    async fn start() -> Self {
        Self::start_by(pipeline().args(["run"])).await
    }

    async fn start_by(run: PipelineRun) -> Self {
        let (folder, slack) = (tempfile::tempdir().unwrap(), HttpReceiver::start().await);
        std::fs::write(folder.path().join("readings.jsonl"), "").unwrap();
        let file = folder.path().join("hall.yaml");
        std::fs::write(&file, FILE.replace("SLACK", &slack.url())).unwrap();
        let mut running = run.args([file]).args(["--dashboard", "127.0.0.1:0"]).start();
        let url = url_of(&mut running).await;
        World { folder, slack, url, _running: running }
    }

    /// Forty quiet readings of the first machine and forty-three of the second, and at the end of each one that stands out.
    fn readings(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64;
        let mut text = String::new();
        for (machine, count) in MACHINES.into_iter().zip([40, 43]) {
            for number in 0..=count {
                let wiggle = [0.0, 0.4, 0.2, 0.1, 0.3][number % 5];
                let (heat, level) = if number == count { (71.5, -3.25) } else { (20.0 + wiggle, 5.0 + wiggle) };
                let at = now - (count - number) as i64 * 1_000_000;
                // It was received long after it was measured, so the two columns lead to different times.
                let [at, received] =
                    [at - 86_400_000_000, at].map(|micros| pipeline_stage::Timestamp(micros).to_rfc3339());
                let row = json!({ "received": received, "machine": machine, "heat": heat, "level": level, "at": at });
                writeln!(text, "{row}").unwrap();
            }
        }
        self.append(&text);
    }

    fn append(&self, text: &str) {
        let file = OpenOptions::new().append(true).open(self.folder.path().join("readings.jsonl"));
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    }
}

async fn opened(world: &World) -> Browser {
    let browser = Browser::start(1280, 900).await;
    browser.goto(&world.url).await;
    browser.wait_for("the page is told", &shows("#connection", "live")).await;
    browser
}

/// Chooses of a list, as a user does.
async fn choose(browser: &Browser, selector: &str, option: &str) {
    let script = format!(
        "const list = document.querySelector('{selector}'); \
         list.selectedIndex = [...list.options].findIndex((found) => found.text === '{option}'); \
         list.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    );
    browser.run(&script).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_detector_has_its_own_anomalies_columns_and_links() {
    let world = World::start().await;
    let browser = opened(&world).await;
    world.readings();
    // What a sink stores, with every digit of the key.
    browser.wait_for("stored anomalies", &shows("#anomalies td", "9,007,199,254,740,993")).await;
    browser.wait_for("both", "document.querySelectorAll('#anomalies tbody tr').length === 2").await;
    browser.enter("#filters input[name=machine]", "9007199254740993").await;
    browser.click("#filters button:not([type])").await;
    browser.wait_for("one row", "document.querySelectorAll('#anomalies tbody tr').length === 1").await;
    browser.wait_for("of that machine", &shows("#anomalies td", "9,007,199,254,740,993")).await;

    for (list, mine, other) in
        [("low, not stored", "low_z_score", "wet_z_score"), ("wet, not stored", "wet_z_score", "low_z_score")]
    {
        choose(&browser, "#filters select", list).await;
        browser.wait_for("its columns", &shows("#anomalies th", mine)).await;
        let rows = "document.querySelectorAll('#anomalies tbody tr').length === 2";
        browser.wait_for("its anomalies, and no others", rows).await;
        browser.wait_for("no column of another", &format!("!({})", shows("#anomalies th", other))).await;
        browser
            .wait_for(
                "values in all columns",
                "![...document.querySelectorAll('#anomalies td')].some((cell) => cell.textContent === '–')",
            )
            .await;
    }

    browser.click("#anomalies tbody tr a[href*='9007199254740993']").await;
    browser
        .wait_for("the right series", &shows("#series-note", "9007199254740993: 44 readings of history, with the band"))
        .await;
    let place = browser.run("return location.hash").await;
    assert!(place.as_str().unwrap().contains("detector=wet"), "{place}");
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_leads_to_its_series_at_its_time() {
    let world = World::start().await;
    world.readings();
    let link = link_of_second(&world).await;
    let browser = opened(&world).await;
    browser.goto(&format!("{}/{link}", world.url)).await;
    browser.wait_for("its readings", &shows("#series-note", "9007199254740993: 44 readings of history")).await;
    let detector = browser.run("return document.querySelector('#series-detector').value").await;
    assert_eq!(detector, Value::from("low"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_a_loaded_sink_has_the_same_link() {
    let world = World::start_by(pipeline_slim().args(["run"]).args(everything_loaded())).await;
    world.readings();
    let link = link_of_second(&world).await;
    let start = "#/series?detector=low&series=%7B%22machine%22%3A%229007199254740993%22%7D&at=";
    let at: i64 = link.strip_prefix(start).unwrap_or_else(|| panic!("{link}")).parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((now - 86_400_000 - at).abs() < 60_000, "the time is not that of the detector: {at}");
}

/// Where the alert of the second machine leads, behind the address of the page.
async fn link_of_second(world: &World) -> String {
    let requests = world.slack.wait_until(|requests| requests.len() == 2, LONG).await;
    let mut messages = requests.iter().map(|request| request.json().to_string());
    let message = messages.find(|text| text.contains("9007199254740993")).expect("an alert of the second machine");
    let link = message.split("http://127.0.0.1:1/").nth(1).unwrap().split(['|', '>', '"']).next().unwrap();
    link.replace("&amp;", "&")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_stays_while_another_is_typed() {
    let world = World::start().await;
    world.readings();
    let browser = opened(&world).await;
    let series = json!({ "machine": MACHINES[0].to_string() });
    browser
        .run(&format!("location.hash = '#/series?' + new URLSearchParams({{ series: '{series}', detector: 'low' }})"))
        .await;
    browser.wait_for("the series", &shows("#series-note", "No readings of 9007199254740992")).await;
    browser
        .run("window.asked = []; const fetched = window.fetch; window.fetch = (...all) => { window.asked.push(String(all[0])); return fetched(...all); }")
        .await;
    browser.run("document.querySelector('#series-name').value = ''").await;
    browser.enter("#series-name", "9007199254740993").await;
    let asked = "window.asked.filter((path) => path.startsWith('/api/series?'))";
    browser.wait_for("that it goes on being asked for", &format!("{asked}.length > 1")).await;
    let questions = browser.run(&format!("return {asked}")).await;
    let is_of_series = |question: &Value| question.as_str().unwrap().contains("9007199254740992");
    assert!(questions.as_array().unwrap().iter().all(is_of_series), "{questions}");
    browser.click("#series-form button").await;
    browser.wait_for("the series that was typed", &shows("#series-note", "No readings of 9007199254740993")).await;
    browser.run("[...document.querySelectorAll('#series-ranges button')].find((found) => found.textContent === '7 days').click()").await;
    browser.wait_for("its readings", &shows("#series-note", "9007199254740993: 44 readings of history")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_edges_can_be_read_aloud() {
    let world = World::start().await;
    let browser = opened(&world).await;
    world.readings();
    browser.wait_for("the picture", "document.querySelectorAll('#picture .stage').length === 8").await;
    browser.click("#picture [data-stage=low]").await;
    for (edge, words) in [("from readings", "/s"), ("to alerts", "/s")] {
        let cell = format!(
            "[...document.querySelectorAll('#stage-details tr')].some((row) => row.cells[0].textContent === '{edge}' && row.cells[1].textContent.includes('{words}'))"
        );
        browser.wait_for(edge, &cell).await;
    }
    // Of rows that come now.
    world.readings();
    browser.wait_for("time for a row", &shows("#stage-details td", "for a row")).await;
    let is_open = "document.querySelector('#picture [data-stage=low]').getAttribute('aria-expanded') === 'true'";
    browser.wait_for("that it is open", is_open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tabs_than_a_browser_has_connections_are_all_served() {
    let world = World::start().await;
    let browser = opened(&world).await;
    for _ in 0..8 {
        browser.open_tab().await;
        browser.goto(&world.url).await;
        browser.wait_for("the page is told", &shows("#connection", "live")).await;
    }
    // Those that were left come back when they are looked at, and know what has happened meanwhile.
    world.readings();
    browser.wait_for("anomalies in the last one", &shows("#anomalies td", "71.5")).await;
    for tab in [0, 4] {
        browser.look_at_tab(tab).await;
        browser.wait_for("the page is told again", &shows("#connection", "live")).await;
        browser.wait_for("what came meanwhile", &shows("#anomalies td", "71.5")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_view_breaks_a_rule_of_wcag() {
    let world = World::start().await;
    let browser = opened(&world).await;
    world.readings();
    world.append("this is no JSON\n");
    browser.wait_for("anomalies", &shows("#anomalies td", "71.5")).await;
    for (width, is_dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        browser.resize(width, 900).await;
        browser.prefers_dark(is_dark).await;
        let theme = if is_dark { "dark" } else { "light" };
        browser.wait_for("its colours", &format!("document.documentElement.dataset.theme === '{theme}'")).await;
        for (view, is_there) in views() {
            browser.run(&format!("location.hash = '{view}'")).await;
            browser.wait_for(&view, &is_there).await;
            if view == "#/" {
                browser.run("if (!document.querySelector('#stage-details table')) document.querySelector('#picture [data-stage=low]').click()").await;
                browser.wait_for("details", "document.querySelector('#stage-details table')").await;
            }
            browser.run("for (const part of document.querySelectorAll('details')) part.open = true").await;
            browser.screenshot(&pictures().join(picture_name(&view, width, theme))).await;
            let broken = breaks_wcag(&browser).await;
            assert!(broken.is_empty(), "{view}, {theme}, {width} px wide:\n{}", broken.join("\n"));
        }
    }
}

/// Each view by its address, and what shows that it is there.
fn views() -> [(String, String); 3] {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64 - 86_400_000;
    let series = format!("#/series?detector=hot&series=%7B%22machine%22%3A%22{}%22%7D&at={at}", MACHINES[1]);
    [
        ("#/".to_owned(), shows("#counts caption", "by machine")),
        (
            series,
            format!(
                "{} && document.querySelectorAll('#series-chart .trace.scatter').length > 4",
                shows("#series-note", "with the band")
            ),
        ),
        ("#/letters".to_owned(), shows("#letters-table td", "readings")),
    ]
}

fn picture_name(view: &str, width: u32, theme: &str) -> String {
    let name = view.trim_start_matches("#/").split('?').next().unwrap_or_default();
    let name = if name.is_empty() { "overview" } else { name };
    Path::new(&format!("accessible-{name}-{width}-{theme}.png")).display().to_string()
}

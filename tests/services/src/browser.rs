//! A real browser: Chromium without a window, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>).
//!
//! The few calls that tests need are made here with reqwest, which is in the tree anyway: the crates for WebDriver bring
//! some forty others, for cookies, time zones and Unicode.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::install::{Packages, on_path};
use crate::pipeline_run::{PipelineRun, RunningPipeline};
use crate::waiting::{POLL_EVERY, blocking};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const SHOWS_WITHIN: Duration = Duration::from_secs(90);
/// A page comes to rest sooner.
const CLICKS: usize = 5;
/// Of an element that was found; the name is WebDriver's.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    http: reqwest::Client,
    /// The address of its session at its driver.
    session: String,
    driver: RunningPipeline,
}

impl Browser {
    /// Starts a browser of that size in pixels.
    pub async fn start(width: u32, height: u32) -> Self {
        let (browser, chromedriver) = blocking(installed).await;
        let mut driver = PipelineRun::new(chromedriver).args(["--port=0"]).start();
        let line = driver.wait_for_line("started successfully on port", STARTS_WITHIN).await;
        let port: String = line.chars().filter(char::is_ascii_digit).collect();
        // An error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without options");
        // Root, as whom CI runs, may not have a sandbox.
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"];
        let options = json!({ "args": args, "binary": browser });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let address = format!("http://127.0.0.1:{port}/session");
        let made = call(http.post(&address), json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        let session = format!("{address}/{}", made["sessionId"].as_str().expect("a session has an id"));
        let browser = Browser { http, session, driver };
        browser.resize(width, height).await;
        browser
    }

    /// Makes the page that large, whatever a window's least size is.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Whether pages that ask are told that the user likes it dark.
    pub async fn prefers_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Goes to an address.
    pub async fn goto(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    /// Opens another tab, which is then the one that is looked at, and which all that follows is about.
    pub async fn open_tab(&self) {
        let made = self.post("window/new", json!({ "type": "tab" })).await;
        self.post("window", json!({ "handle": made["handle"] })).await;
    }

    /// Looks at the tab that was opened as the `number`th, from 0 on.
    pub async fn look_at_tab(&self, number: usize) {
        let tabs = call(self.http.get(format!("{}/window/handles", self.session)), Value::Null).await;
        self.post("window", json!({ "handle": tabs[number] })).await;
        self.devtools("Page.bringToFront", json!({})).await;
    }

    /// Runs the body of a function in the page and gives what it returns; a promise is waited for.
    pub async fn run(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true in the page; panics with `what` if it does not become so.
    pub async fn wait_for(&self, what: &str, expression: &str) {
        self.wait_within(SHOWS_WITHIN, what, expression).await;
    }

    /// The same, within a time of one's own.
    pub async fn wait_within(&self, time: Duration, what: &str, expression: &str) {
        let script = format!("return Boolean({expression})");
        let start = Instant::now();
        while self.run(&script).await != Value::Bool(true) {
            if time < start.elapsed() {
                let page = self.run("return document.body.innerText").await;
                let (page, complaints) = (page.as_str().unwrap_or_default(), self.complaints().await);
                panic!("waited {time:?} in vain for: {what}; the browser says {complaints:?}; the page is\n{page}");
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Clicks on what a selector finds first, in the middle of it, where the user would; again, as the user would, if what
    /// has just come in has moved it away from under the mouse.
    pub async fn click(&self, selector: &str) {
        let selector = serde_json::to_string(selector).expect("text is JSON");
        let middle = "const { x, y, width, height } = found.getBoundingClientRect(); \
                      const middle = [x + width / 2, y + height / 2]";
        // Found and measured in one step: pages that live put other elements in the place of those that were found.
        let measure = format!(
            "const found = document.querySelector({selector}); found.scrollIntoView({{ block: 'center' }}); {middle}; \
             window.isHit = null; const note = (event) => {{ window.isHit = found.contains(event.target); }}; \
             document.addEventListener('click', note, {{ capture: true, once: true }}); return middle"
        );
        for _ in 0..CLICKS {
            let at = self.run(&measure).await;
            for kind in ["mousePressed", "mouseReleased"] {
                let event = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
                self.devtools("Input.dispatchMouseEvent", event).await;
            }
            // Another page has no note. What lies under something else stays where it is, and is not clicked again.
            let has_missed = format!(
                "const found = document.querySelector({selector}); if (!found || window.isHit !== false) return false; \
                 {middle}; return middle[0] !== {} || middle[1] !== {}",
                at[0], at[1]
            );
            if self.run(&has_missed).await != Value::Bool(true) {
                return;
            }
        }
    }

    /// Types into what a selector finds first, as if by keys.
    pub async fn enter(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.post(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    async fn find(&self, selector: &str) -> String {
        let found = self.post("element", json!({ "using": "css selector", "value": selector })).await;
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    /// Keeps a picture of the page.
    pub async fn screenshot(&self, file: &Path) {
        let png = call(self.http.get(format!("{}/screenshot", self.session)), Value::Null).await;
        let png = STANDARD.decode(png.as_str().unwrap_or_default()).expect("a picture is base64");
        std::fs::write(file, png).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// What the browser complained of since this was last asked: scripts that failed, what a policy forbade.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    async fn devtools(&self, name: &str, parameters: Value) {
        self.post("goog/cdp/execute", json!({ "cmd": name, "params": parameters })).await;
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        call(self.http.post(format!("{}/{path}", self.session)), body).await
    }
}

/// The browser and its driver.
fn installed() -> (PathBuf, PathBuf) {
    let packages = Packages {
        debian: &["chromium", "chromium-driver"],
        before: "true",
        what: "Chromium with its driver",
        otherwise: "put `chromium` and `chromedriver` of one version on the `PATH`",
    };
    let found = || on_path("chromium").zip(on_path("chromedriver"));
    packages.require(|| found().is_some());
    found().expect("both are there now")
}

/// Asks the driver; panics with its words.
async fn call(request: reqwest::RequestBuilder, body: Value) -> Value {
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send().await.unwrap_or_else(|error| panic!("the browser's driver does not answer: {error}"));
    let is_right = answer.status().is_success();
    let mut answer: Value = answer.json().await.unwrap_or_else(|error| panic!("the browser's driver says: {error}"));
    let value = answer["value"].take();
    assert!(is_right, "{body}: {}: {}", value["error"], value["message"]);
    value
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that is ended leaves its browser behind.
        self.driver.kill_all();
    }
}

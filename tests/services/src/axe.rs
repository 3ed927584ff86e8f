//! axe-core, the checker of accessibility that browsers and audits use (<https://github.com/dequelabs/axe-core>, MPL-2.0).
//!
//! Fetched from npm once and kept in cargo's target folder: no third-party script lies in the repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha512};

use crate::Browser;
use crate::install::{Packages, kept_folder, on_path, one_at_a_time};
use crate::waiting::blocking;

const VERSION: &str = "4.14.1";
/// What npm's registry has published for this version, as `dist.integrity`.
const SHA512: &str = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==";

/// The rules of WCAG 2.0, 2.1 and 2.2, levels A and AA.
const TAGS: &str = r#"["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]"#;

/// What breaks a rule of WCAG 2 (A or AA) on the page as it is shown now: the rule, and each element with the reason.
/// Panics when hardly any rule could be looked at, for then nothing is known.
pub async fn breaks_wcag(browser: &Browser) -> Vec<String> {
    let script = blocking(script).await;
    browser.run(&format!("if (!window.axe) {{ {script} }}")).await;
    let options = format!("{{ runOnly: {{ type: 'tag', values: {TAGS} }}, resultTypes: ['violations'] }}");
    let found = browser.run(&format!("return window.axe.run(document, {options})")).await;
    let passed = found["passes"].as_array().map_or(0, Vec::len);
    assert!(10 < passed, "axe-core has looked at {passed} rules only: {found}");
    let broken = found["violations"].as_array().cloned().unwrap_or_default();
    broken.iter().flat_map(described).collect()
}

fn described(broken: &Value) -> Vec<String> {
    let (rule, help) = (&broken["id"], &broken["help"]);
    let elements = broken["nodes"].as_array().cloned().unwrap_or_default();
    elements.iter().map(|node| format!("{rule} ({help}): {}: {}", node["html"], node["failureSummary"])).collect()
}

/// The script, fetched if it is not there yet.
fn script() -> String {
    one_at_a_time("axe", || {
        let folder = kept_folder().join(format!("axe-core-{VERSION}"));
        let package = folder.join(format!("axe-core-{VERSION}.tgz"));
        // Looked at each time: what was fetched once may have been changed since.
        if !is_right(&package) {
            fetch(&folder);
            assert!(is_right(&package), "`{}` is not what was published: its SHA-512 is another", package.display());
        }
        let mut unpack = Command::new("tar");
        unpack.args(["-xzOf"]).arg(&package).arg("package/axe.min.js");
        let output = unpack.output().unwrap_or_else(|error| panic!("`tar` does not start: {error}"));
        assert!(output.status.success(), "`{}` cannot be unpacked", package.display());
        String::from_utf8(output.stdout).expect("a script is UTF-8")
    })
}

fn is_right(package: &Path) -> bool {
    fs::read(package).is_ok_and(|bytes| STANDARD.encode(Sha512::digest(bytes)) == SHA512)
}

/// From the registry that npm is set to.
fn fetch(folder: &Path) {
    let packages = Packages {
        debian: &["npm"],
        before: "true",
        what: "npm, which fetches axe-core,",
        otherwise: "put Node.js with `npm` on the `PATH`",
    };
    packages.require(|| on_path("npm").is_some());
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("cannot make `{}`: {error}", folder.display()));
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", &format!("axe-core@{VERSION}")]).current_dir(folder);
    let output = pack.output().unwrap_or_else(|error| panic!("`npm` does not start: {error}"));
    assert!(output.status.success(), "npm cannot fetch axe-core: {}", String::from_utf8_lossy(&output.stderr));
}

//! The book: its settings, and that it has every page of docs/.

use std::collections::BTreeSet;
use std::path::Path;

use super::{documents, links, repository};

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

#[test]
fn the_book_has_every_page_of_docs_once() {
    let listed: Vec<String> = links::of(&read("docs/SUMMARY.md")).into_iter().map(|(_, target)| target).collect();
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(listed.len(), unique.len(), "a page stands there twice");
    let pages = documents().into_iter().filter_map(|page| page.path.strip_prefix("docs/").map(String::from));
    let pages: BTreeSet<String> = pages.filter(|page| page != "SUMMARY.md").collect();
    let listed: BTreeSet<String> = listed.into_iter().collect();
    assert_eq!(listed, pages, "left: what SUMMARY.md lists, right: the pages there are");
}

#[test]
fn pages_of_the_book_lead_out_of_it_in_a_way_that_works_on_the_site() {
    // mdBook leaves such links as they are, and the site has no such files: docs/theme/outside.js sends them to GitHub.
    let script = read("docs/theme/outside.js");
    assert!(read("docs/book.toml").contains("theme/outside.js"));
    assert!(script.contains("/blob/"));
}

#[test]
fn the_settings_of_the_book_name_what_is_there() {
    let settings = read("docs/book.toml");
    for line in settings.lines().filter(|line| line.starts_with("additional-")) {
        for file in line.split('"').skip(1).step_by(2) {
            assert!(Path::new(&repository()).join("docs").join(file).exists(), "{file}");
        }
    }
    assert!(settings.contains("src = \".\""), "the pages stay where they are");
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() {
    let rules = read("docker/prometheus/alerts.yml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let runbook = read("docs/runbook.md");
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, alerts, "left: docs/runbook.md, right: docker/prometheus/alerts.yml");
    assert!(10 <= alerts.len());
}

//! Links between pages, to files of the repository, and to headings.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{documents, repository};

/// The targets of all links of a page, outside of code, with their lines.
pub fn of(page: &str) -> Vec<(usize, String)> {
    let (mut is_code, mut found) = (false, Vec::new());
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let line = without_code(line);
        for part in line.split("](").skip(1) {
            found.extend(part.split(')').next().map(|target| (number + 1, target.to_owned())));
        }
    }
    found
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// What a heading is called in an address, as GitHub and mdBook do it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The anchors of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let (mut is_code, mut found) = (false, BTreeSet::new());
    for line in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let level = line.chars().take_while(|letter| *letter == '#').count();
        if !is_code && 0 < level && line[level..].starts_with(' ') {
            found.insert(anchor(line[level..].trim()));
        }
    }
    found
}

/// A path without `..`, which must not leave the repository.
pub fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => plain.pop().then_some(())?,
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
}

#[test]
fn links_lead_somewhere() {
    let (mut n_links, mut n_anchors, mut dead) = (0, 0, Vec::new());
    for document in documents() {
        for (line, target) in of(&document.text) {
            let place = format!("{}:{line}: {target}", document.path);
            if target.starts_with("https://") || target.starts_with("http://") || target.starts_with("mailto:") {
                continue;
            }
            n_links += 1;
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, to)| (path, Some(to)));
            let beside = Path::new(&document.path).parent().expect("a file is in a folder");
            let path = if path.is_empty() { Some(PathBuf::from(&document.path)) } else { plain(&beside.join(path)) };
            let Some(path) = path.map(|path| repository().join(path)).filter(|path| path.exists()) else {
                dead.push(place);
                continue;
            };
            let Some(anchor) = anchor else { continue };
            n_anchors += 1;
            let page = std::fs::read_to_string(&path).unwrap_or_default();
            if !anchors(&page).contains(anchor) {
                dead.push(place);
            }
        }
    }
    assert!(100 < n_links && 5 < n_anchors, "{n_links} links, {n_anchors} of them to headings");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn headings_have_the_anchors_that_github_gives_them() {
    for (heading, expected) in [
        ("The one possible repeat of an alert", "the-one-possible-repeat-of-an-alert"),
        ("`yaml`, or not?", "yaml-or-not"),
        ("Who may see it", "who-may-see-it"),
        ("2.3 Output", "23-output"),
    ] {
        assert_eq!(anchor(heading), expected);
    }
}

//! README, CONTRIBUTING, docs/ and the pages beside it: every command runs, every piece of a pipeline file validates, every link leads
//! somewhere, and the book has every page.
//!
//! How a block is written decides what is done with it; CONTRIBUTING.md says the same to authors:
//!
//! | block | what is done |
//! |---|---|
//! | `sh` | run by `sh -e` in the folder of the page, a copy of what the repository has for users |
//! | `console` | each `$ command` is run, and must print the lines below it, in this order; `…` stands for anything |
//! | `yaml` | validated: as a file, or put where it belongs in one |
//! | any other, its first line `# name.ext` | written to that file |
//! | `text` | nothing |

mod blocks;
mod dependencies;
mod exceptions;
mod links;
mod pieces;
mod running;
mod site;

use std::path::{Path, PathBuf};

use blocks::Block;
use exceptions::{EXCEPTIONS, Exception};
use pieces::is_validated;
use running::Page;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// A document for people: its path in the repository, and its text.
struct Document {
    path: String,
    text: String,
}

/// All of them, in the order of their paths.
fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docker/README.md", "docker/helm/pipeline/README.md"]
            .map(PathBuf::from)
            .to_vec();
    for folder in ["docs", "docs/stages", "docs/decisions"] {
        let entries = std::fs::read_dir(repository().join(folder)).expect("the folder is there");
        let names = entries.map(|entry| PathBuf::from(folder).join(entry.expect("it can be read").file_name()));
        paths.extend(names.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    paths.sort();
    let read = |path: PathBuf| Document {
        text: std::fs::read_to_string(repository().join(&path))
            .unwrap_or_else(|why| panic!("{}: {why}", path.display())),
        path: path.display().to_string(),
    };
    paths.into_iter().map(read).collect()
}

fn exception(document: &Document, block: &Block) -> Option<&'static Exception> {
    EXCEPTIONS.iter().find(|exception| exception.page == document.path && block.text.contains(exception.block))
}

#[test]
fn every_block_says_what_it_is() {
    let languages = ["sh", "console", "yaml", "text", "python", "rust", "c", "json", "sql", "toml", "html"];
    for document in documents() {
        for block in blocks::of(&document.text) {
            let (path, line) = (&document.path, block.line);
            assert!(languages.contains(&block.language.as_str()), "{path}:{line}: a block of `{}`", block.language);
            // Who copies commands must be able to trust them: they may not hide in a block that nobody runs.
            let mut lines = block.text.lines().map(str::trim_start);
            let hidden = |line: &str| line.starts_with("$ ") || line.starts_with("cargo ") || line.starts_with("make ");
            assert!(block.language != "text" || !lines.any(hidden), "{path}:{line}: commands in a block of `text`");
        }
    }
}

/// One page after the other in threads: most of the time is waiting for pipelines that run on until they are stopped.
#[test]
fn every_command_runs_and_every_piece_of_a_pipeline_is_valid() {
    let documents = documents();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = documents.iter().map(|document| scope.spawn(|| follow(document))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))).collect()
    });
    let all = tallies.iter().fold(Tally::default(), |all, page| all + *page);
    assert!(50 <= all.commands && 20 <= all.pieces && 50 <= all.lines, "{all:?} were looked at");
    assert_eq!(all.exceptions, EXCEPTIONS.len(), "an exception is for nothing, or for two blocks");
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    commands: usize,
    /// Lines of output that were compared.
    lines: usize,
    pieces: usize,
    exceptions: usize,
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            commands: self.commands + other.commands,
            lines: self.lines + other.lines,
            pieces: self.pieces + other.pieces,
            exceptions: self.exceptions + other.exceptions,
        }
    }
}

/// Does what the page says, from top to bottom.
fn follow(document: &Document) -> Tally {
    let (page, mut tally) = (Page::new(), Tally::default());
    let blocks = blocks::of(&document.text);
    for block in &blocks {
        let place = format!("{}:{}", document.path, block.line);
        if exception(document, block).is_some() {
            tally.exceptions += 1;
            continue;
        }
        if let Some(name) = block.file_name() {
            page.write(name, &block.text);
        }
        match block.language.as_str() {
            "sh" => {
                page.run(&block.text, &place);
                tally.commands += block.text.lines().filter(|line| !line.trim().is_empty()).count();
            }
            "console" => {
                for (command, expected) in block.commands() {
                    tally.lines += page.says(&command, &expected, &place);
                    tally.commands += 1;
                }
            }
            "yaml" => {
                is_validated(&page, document, block, &place);
                tally.pieces += 1;
            }
            _ => {}
        }
    }
    tally
}

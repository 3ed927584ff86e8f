//! Every target over its corpus and changed copies of it, on any compiler: what a fuzzer has found once stays found.

use std::path::{Path, PathBuf};

use pipeline_fuzz::{TARGETS, Target};
use pipeline_testkit::Random;

/// Changed copies of each file. Debug builds run some thousand a second.
const COPIES: usize = 100;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("it can be read"))).collect()
}

/// A copy with some bytes changed, taken out, doubled, or taken from another file.
fn changed(random: &mut Random, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(copy.len().max(1)).min(copy.len());
        let end = (at + random.below(8)).min(copy.len());
        match random.below(4) {
            0 if at < copy.len() => copy[at] = random.below(256) as u8,
            1 => drop(copy.drain(at..end)),
            2 => drop(
                copy.splice(at..at, bytes[at.min(bytes.len())..end.min(bytes.len()).max(at.min(bytes.len()))].to_vec()),
            ),
            _ => {
                let from = random.below(other.len().max(1)).min(other.len());
                let part = other[from..(from + random.below(32)).min(other.len())].to_vec();
                drop(copy.splice(at..at, part));
            }
        }
    }
    copy
}

#[test]
fn every_target_keeps_its_laws_over_its_corpus_and_changed_copies() {
    for target in TARGETS {
        let corpus = corpus(&target);
        let mut n_accepted = 0;
        for (path, bytes) in &corpus {
            println!("{}", path.display());
            n_accepted += usize::from((target.run)(bytes));
        }
        // A target that accepts nothing or refuses nothing has looked at nothing.
        assert!(3 <= n_accepted && n_accepted < corpus.len(), "{}: {n_accepted} of {}", target.name, corpus.len());
        let mut random = Random::new(7);
        for (path, bytes) in &corpus {
            for copy in 0..COPIES {
                let other = &corpus[random.below(corpus.len())].1;
                let input = changed(&mut random, bytes, other);
                let caught = std::panic::catch_unwind(|| (target.run)(&input));
                let name = path.display();
                assert!(caught.is_ok(), "copy {copy} of {name} breaks a law: {:?}", String::from_utf8_lossy(&input));
            }
        }
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target_and_is_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(folder).expect("it is there") {
        let name = entry.expect("it can be read").file_name().into_string().expect("it is text");
        let target = TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("what is {name}?"));
        let bytes: usize = corpus(target).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 64 << 10, "{name}: {bytes} bytes");
    }
}

//! What a crash, a restart and a bad disk leave in the files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pipeline_stage::ErrorKind;

use super::*;
use crate::sinks::fixtures::{Screen, built_in, context, epoch, owner, readings, readings_of};

const PLAIN: &str = r#"{"path": "out.jsonl"}"#;
/// Room for two of the rows that `row` makes.
const ROTATED: &str = r#"{"path": "out.jsonl", "rotate_at": "70B", "columns": ["sensor_id", "value"]}"#;

fn sink(folder: &Path, options: &str) -> Box<dyn Sink> {
    let context = context(&readings(), folder.into(), Arc::new(Screen::default()));
    built_in::<FileSinkOptions>(options, context).unwrap()
}

fn row(number: u64) -> EpochRows {
    epoch("0", number, &readings_of(&[("sensor", "temperature", number as f64)]))
}

/// Commits and returns the mark as the engine stores it.
async fn commit(sink: &mut Box<dyn Sink>, epoch: &EpochRows) -> Mark {
    match sink.commit(std::slice::from_ref(epoch)).await.unwrap() {
        Commit::Done(details) => Mark { detail: details[0].clone(), ..epoch.mark.clone() },
        Commit::Refused(refused) => panic!("{refused:?}"),
    }
}

/// All files of a folder with what is in them, in the order they were begun; not those that start with a point.
fn written(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    files.sort_by_key(|(name, _)| (name.len(), name.clone()));
    files
}

#[tokio::test]
async fn rows_are_json_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), r#"{"path": "a/b/{task}.jsonl"}"#);
    assert_eq!(sink.claim(&owner(None)).await.unwrap(), Claim::New);
    commit(&mut sink, &epoch("0", 1, &readings())).await;
    let expected = "\
{\"sensor_id\":\"sensor-04\",\"metric_type\":\"temperature\",\"value\":71.32,\"timestamp\":\"2025-07-20T12:00:07.412Z\"}
{\"sensor_id\":\"sensor-09\",\"metric_type\":\"pressure\",\"value\":962.1,\"timestamp\":\"2025-07-20T12:00:08.412Z\"}
";
    assert_eq!(fs::read_to_string(folder.path().join("a/b/readings-0.jsonl")).unwrap(), expected);
}

#[tokio::test]
async fn after_a_crash_the_same_epochs_give_the_same_bytes() {
    for options in [PLAIN, ROTATED] {
        // `crash` is the number of epochs written, `stored` the last one whose mark the engine has kept.
        for (crash, stored) in (0..=6usize).flat_map(|crash| (0..=crash).map(move |stored| (crash, stored))) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("out.jsonl"), "what was there\n").unwrap();
            let mut marks = vec![None];
            let mut first = sink(folder.path(), options);
            first.claim(&owner(None)).await.unwrap();
            for number in 1..=crash {
                marks.push(Some(commit(&mut first, &row(number as u64)).await));
            }
            drop(first);

            let mut second = sink(folder.path(), options);
            let claim = second.claim(&owner(marks[stored].clone())).await.unwrap();
            assert_eq!(claim, marks[stored].clone().map_or(Claim::New, Claim::At));
            for number in stored + 1..=6 {
                commit(&mut second, &row(number as u64)).await;
            }
            let all: String = written(folder.path()).into_iter().map(|(_, text)| text).collect();
            let values: Vec<_> = all.lines().skip(1).filter_map(|line| line.split("\"value\":").nth(1)).collect();
            let values: Vec<_> = values.iter().map(|value| &value[..3]).collect();
            assert_eq!(values, ["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"], "{options} crash {crash} stored {stored}");
            assert!(all.starts_with("what was there\n"));
        }
    }
}

#[tokio::test]
async fn a_full_file_is_closed_and_never_touched_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), ROTATED);
    sink.claim(&owner(None)).await.unwrap();
    let rows: Vec<(&str, &str, f64)> = (1..=5).map(|number| ("sensor", "temperature", f64::from(number))).collect();
    let mark = commit(&mut sink, &epoch("0", 1, &readings_of(&rows))).await;
    assert_eq!(mark.detail.as_deref(), Some(r#"{"path":"out.jsonl","file":2,"length":35}"#));
    let line = |value: u32| format!("{{\"sensor_id\":\"sensor\",\"value\":{value}.0}}\n");
    let expected = [
        ("out.jsonl", format!("{}{}", line(1), line(2))),
        ("out.1.jsonl", format!("{}{}", line(3), line(4))),
        ("out.2.jsonl", line(5)),
    ];
    assert_eq!(written(folder.path()), expected.map(|(name, text)| (name.to_owned(), text)));
    // A pipeline that begins anew goes on in the newest file, also when older ones were taken away.
    fs::remove_file(folder.path().join("out.1.jsonl")).unwrap();
    let mut anew = self::sink(folder.path(), ROTATED);
    let owner = Owner { state_id: "s2".into(), ..owner(None) };
    assert_eq!(anew.claim(&owner).await.unwrap(), Claim::New);
    commit(&mut anew, &row(6)).await;
    assert_eq!(fs::read_to_string(folder.path().join("out.2.jsonl")).unwrap(), format!("{}{}", line(5), line(6)));
}

#[tokio::test]
async fn a_row_larger_than_a_file_gets_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), r#"{"path": "out", "rotate_at": "10B"}"#);
    sink.claim(&owner(None)).await.unwrap();
    commit(&mut sink, &epoch("0", 1, &readings())).await;
    let names: Vec<_> = written(folder.path()).into_iter().map(|(name, text)| (name, text.lines().count())).collect();
    assert_eq!(names, [("out".to_owned(), 1), ("out.1".to_owned(), 1)]);
}

#[tokio::test]
async fn several_epochs_of_several_tasks_have_their_own_files_and_marks() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), r#"{"path": "{task}.jsonl", "columns": ["value"]}"#);
    let other = Owner { task: "readings/1".into(), ..owner(None) };
    sink.claim(&owner(None)).await.unwrap();
    sink.claim(&other).await.unwrap();
    let nothing = readings().slice(0, 0);
    let epochs = [row(1), row(2), epoch("1", 7, &readings()), epoch("1", 8, &nothing)];
    let Commit::Done(details) = sink.commit(&epochs).await.unwrap() else { panic!("nothing is refused") };
    let lengths: Vec<_> =
        details.iter().map(|detail| Place::parse(detail.as_deref().unwrap()).unwrap().length).collect();
    assert_eq!(lengths, [14, 28, 32, 32]);
}

#[tokio::test]
async fn two_tasks_do_not_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), PLAIN);
    sink.claim(&owner(None)).await.unwrap();
    sink.claim(&owner(None)).await.unwrap();
    let error = sink.claim(&Owner { task: "readings/1".into(), ..owner(None) }).await.unwrap_err();
    let expected = "the tasks `readings/0` and `readings/1` would both write `out.jsonl`: put `{task}` into `path`, then each has its own file";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Fatal, expected));
}

#[tokio::test]
async fn a_file_that_somebody_has_changed_stops_the_pipeline() {
    for (change, at_claim, at_commit) in [
        ("shorten", "has 20 bytes, but 102 bytes were committed to it", "has 20 bytes instead of 102"),
        ("remove", "is not there, but 102 bytes were committed to it", "is gone"),
        ("append", "", "has 103 bytes instead of 102"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut first = sink(folder.path(), PLAIN);
        first.claim(&owner(None)).await.unwrap();
        let mark = commit(&mut first, &row(1)).await;
        match change {
            "shorten" => fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(20).unwrap(),
            "remove" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, format!("{}x", fs::read_to_string(&path).unwrap())).unwrap(),
        }
        let error = first.commit(&[row(2)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.to_string().contains(at_commit), "{error}");

        let claimed = sink(folder.path(), PLAIN).claim(&owner(Some(mark.clone()))).await;
        match at_claim {
            // What is behind the mark may be an epoch that was never committed: it is cut.
            "" => assert_eq!(claimed.unwrap(), Claim::At(mark)),
            words => {
                let error = claimed.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Fatal);
                assert!(error.to_string().contains(words), "{error}");
                let cold = Owner { takes_over: true, ..owner(Some(mark.clone())) };
                let mut anew = sink(folder.path(), PLAIN);
                assert_eq!(anew.claim(&cold).await.unwrap(), Claim::At(mark));
                commit(&mut anew, &row(2)).await;
                assert!(fs::read_to_string(&path).unwrap().ends_with("}\n"));
            }
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_tried_again_and_leaves_no_half_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), ROTATED);
    sink.claim(&owner(None)).await.unwrap();
    let mark = commit(&mut sink, &row(1)).await;
    // The second file cannot be made as long as a link to nowhere has its name.
    let next = folder.path().join("out.1.jsonl");
    std::os::unix::fs::symlink(folder.path().join("missing/file"), &next).unwrap();
    let two = epoch("0", 2, &readings_of(&[("sensor", "temperature", 2.0), ("sensor", "temperature", 3.0)]));
    let error = sink.commit(std::slice::from_ref(&two)).await.unwrap_err();
    assert_eq!(error.to_string(), "`out.1.jsonl` would be the next file, but there is one already; move it away");
    assert_ne!(fs::metadata(folder.path().join("out.jsonl")).unwrap().len(), 35, "the first row was on disk");
    fs::remove_file(&next).unwrap();
    // The engine may have stored an older mark than the one that was answered, or none.
    assert_eq!(sink.claim(&owner(None)).await.unwrap(), Claim::At(mark));
    assert_eq!(fs::metadata(folder.path().join("out.jsonl")).unwrap().len(), 35);
    commit(&mut sink, &two).await;
    let all: String = written(folder.path()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(all.lines().count(), 3, "{all}");
}

#[tokio::test]
async fn an_epoch_that_failed_is_cut_off_even_without_a_new_claim() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), ROTATED);
    sink.claim(&owner(None)).await.unwrap();
    commit(&mut sink, &row(1)).await;
    fs::create_dir(folder.path().join("out.1.jsonl")).unwrap();
    let two = epoch("0", 2, &readings_of(&[("sensor", "temperature", 2.0), ("sensor", "temperature", 3.0)]));
    sink.commit(std::slice::from_ref(&two)).await.unwrap_err();
    fs::remove_dir(folder.path().join("out.1.jsonl")).unwrap();
    commit(&mut sink, &two).await;
    let all: String = written(folder.path()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(all.lines().count(), 3, "{all}");
}

#[tokio::test]
async fn what_is_no_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out.jsonl")).unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    for (path, kind, message) in [
        ("out.jsonl", ErrorKind::Fatal, "`out.jsonl` cannot be opened"),
        ("plain/out.jsonl", ErrorKind::Fatal, "`plain` cannot be made"),
        ("/dev/null", ErrorKind::Fatal, "`/dev/null` is not a file that can be cut back"),
    ] {
        let mut sink = sink(folder.path(), &serde_json::json!({ "path": path }).to_string());
        let error = sink.claim(&owner(None)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }
    for (path, n_problems) in [("out.jsonl", 1), ("plain/out.jsonl", 1), ("plain", 0), ("new/deep/{task}", 0)] {
        let mut sink = sink(folder.path(), &serde_json::json!({ "path": path }).to_string());
        assert_eq!(sink.check().await.len(), n_problems, "{path}");
    }
}

#[tokio::test]
async fn a_new_path_begins_a_new_file_after_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = sink(folder.path(), PLAIN);
    first.claim(&owner(None)).await.unwrap();
    let mark = commit(&mut first, &row(1)).await;
    let other = r#"{"path": "other.jsonl"}"#;
    for _ in 0..2 {
        // The second time as after a crash that came before the next mark was stored.
        let mut second = sink(folder.path(), other);
        assert_eq!(second.claim(&owner(Some(mark.clone()))).await.unwrap(), Claim::At(mark.clone()));
        commit(&mut second, &row(2)).await;
    }
    let lines: Vec<_> = written(folder.path()).into_iter().map(|(_, text)| text.lines().count()).collect();
    assert_eq!(lines, [1, 1]);
}

#[tokio::test]
async fn a_mark_of_another_state_leaves_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = sink(folder.path(), PLAIN);
    first.claim(&owner(None)).await.unwrap();
    let mark = commit(&mut first, &row(1)).await;
    commit(&mut first, &row(2)).await;
    let before = written(folder.path());
    let other = Owner { state_id: "s2".into(), ..owner(Some(mark.clone())) };
    assert_eq!(sink(folder.path(), PLAIN).claim(&other).await.unwrap(), Claim::At(mark));
    assert_eq!(written(folder.path()), before);
}

#[tokio::test]
async fn an_unfinished_line_of_somebody_else_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.jsonl"), "no line feed").unwrap();
    let mut sink = sink(folder.path(), PLAIN);
    sink.claim(&owner(None)).await.unwrap();
    commit(&mut sink, &row(1)).await;
    assert!(fs::read_to_string(folder.path().join("out.jsonl")).unwrap().starts_with("no line feed\n{"));
}

//! `pipeline plugin`: scaffolds follow their own README, and what is wrong with a library is found.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::production::{pipeline, repository};

/// Built once and kept: a scaffold's dependencies take most of a minute.
fn kept() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scaffolds");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder where no scaffold is. Always the same one, so that cargo knows what it has built there.
fn empty(name: &str) -> PathBuf {
    let folder = kept().join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a line of a README, with the binary under test as `pipeline`, with the scaffold's own flags for C, and without asking
/// any server for crates.
fn sh(line: &str, folder: &Path) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_pipeline"));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("CARGO_NET_OFFLINE", "true").env_remove("CFLAGS");
    command.env("PATH", format!("{}:{path}", binary.parent().unwrap().display()));
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The commands of a README.
fn commands(folder: &Path) -> Vec<String> {
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).expect("it has commands").split("```").next().unwrap();
    block.lines().map(String::from).collect()
}

/// Makes a scaffold and does what its README says: tests, build, check, test, bench, and a run that shows an anomaly,
/// also after a kill.
async fn follows_its_readme(name: &str, kind: &str, language: &str) {
    // What pyarrow weighs is fetched once: the environment of the run before is put where it was.
    let (venv, aside) = (kept().join(format!("{kind}_{language}/{name}/.venv")), kept().join(format!("venv_{kind}")));
    if venv.exists() && !aside.exists() {
        std::fs::rename(&venv, &aside).unwrap();
    }
    let parent = empty(&format!("{kind}_{language}"));
    let made = sh(&format!("pipeline plugin new {name} --kind {kind} --language {language}"), &parent);
    assert!(made.status.success(), "{}", text(&made));
    let folder = parent.join(name);
    if language == "rust" {
        std::fs::create_dir_all(kept().join("target")).unwrap();
        std::os::unix::fs::symlink(kept().join("target"), folder.join("target")).unwrap();
    }
    if aside.exists() {
        std::fs::rename(&aside, folder.join(".venv")).unwrap();
    }
    let commands = commands(&folder);
    assert!(text(&made).contains(&commands.join("\n  ")), "what is printed is what the README says: {}", text(&made));
    let (run, before) = commands.split_last().unwrap();
    assert_eq!(run, "pipeline run demo.yaml");
    assert!(4 <= before.len(), "{before:?}");
    for command in before {
        let output = sh(command, &folder);
        assert!(output.status.success(), "{command}: {}", text(&output));
        assert!(!text(&output).contains("warning:"), "{command}: {}", text(&output));
    }
    // Killed once, it computes again what no checkpoint has, and goes on.
    let mut running = pipeline().args(["run", "demo.yaml"]).current_dir(&folder).start();
    running.wait_for_line("ANOMALY", Duration::from_secs(60)).await;
    running.kill().await;
    let mut running = pipeline().args(["run", "demo.yaml"]).current_dir(&folder).start();
    // Only this line says that all of it is computed again: alerts are shown while that is still going on.
    running.wait_for_line(" again in ", Duration::from_secs(60)).await;
    running.wait_for_line("ANOMALY", Duration::from_secs(60)).await;
    running.interrupt();
    let finished = running.wait().await;
    finished.assert_code(0);
    finished.assert_books_balance();
}

#[tokio::test(flavor = "multi_thread")]
async fn scaffolds_in_c_follow_their_readme() {
    for kind in ["source", "transform", "detector", "sink"] {
        follows_its_readme("night_shift", kind, "c").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaffolds_in_rust_follow_their_readme() {
    for kind in ["source", "transform", "detector", "sink"] {
        follows_its_readme("night_shift", kind, "rust").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaffolds_in_python_follow_their_readme() {
    for kind in ["source", "transform", "detector", "sink"] {
        follows_its_readme("night_shift", kind, "python").await;
    }
}

/// Our own stages in their libraries, which cargo puts beside the tests.
#[tokio::test(flavor = "multi_thread")]
async fn built_in_stages_stand_the_trials_through_the_boundary() {
    let folder = tempfile::tempdir().unwrap();
    let database = pipeline_services::Postgres::shared().await.create_database().await;
    let lines: String = (0..500).map(|row| format!("{{\"n\": {row}}}\n")).collect();
    std::fs::write(folder.path().join("rows.jsonl"), lines).unwrap();
    std::fs::write(folder.path().join("file.yaml"), "path: rows.jsonl\n").unwrap();
    let postgres = format!("url: {}\ntable: readings\n", database.url());
    std::fs::write(folder.path().join("postgres.yaml"), postgres).unwrap();
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    for (plugin, stage, options, trials) in [
        ("builtin", "detector.zscore", "", "20 trials"),
        ("builtin", "source.simulator", "", "4 trials"),
        ("builtin", "source.file", "--options file.yaml", "4 trials"),
        ("builtin", "sink.file", "", "3 trials"),
        ("sqlite", "sink.sqlite", "", "3 trials"),
        ("postgres", "sink.postgres", "--options postgres.yaml", "3 trials"),
    ] {
        let library = beside.join(format!("libpipeline_{plugin}_plugin.so"));
        let output =
            sh(&format!("pipeline plugin test {} --stage {stage} {options}", library.display()), folder.path());
        let said = text(&output);
        assert!(output.status.success() && said.contains(&format!("all is well: {trials}")), "{stage}: {said}");
    }
}

#[test]
fn a_scaffold_is_not_written_over_another_nor_under_a_name_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| sh(&format!("pipeline plugin new {name} --kind detector --language c"), folder.path());
    assert!(new("beat").status.success());
    let again = new("beat");
    assert_eq!((again.status.code(), text(&again).as_str()), (Some(1), "error: there is a `beat` already\n"));
    let taken = new("zscore");
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken).contains("there is a built-in detector `zscore`"), "{}", text(&taken));
}

/// The detector of the docs with something changed, as a library.
fn zscore_with(from: &str, to: &str, folder: &Path) -> String {
    let source = std::fs::read_to_string(repository().join("plugins/example-c/zscore.c")).unwrap();
    let changed = source.replacen(from, to, 1);
    assert!(from.is_empty() || changed != source, "`{from}` is not in the source any more");
    std::fs::write(folder.join("changed.c"), changed).unwrap();
    let include = repository().join("engine/abi/include");
    let line = format!("cc -O1 -shared -fPIC -I {} changed.c -o libchanged.so -lm", include.display());
    let output = sh(&line, folder);
    assert!(output.status.success(), "a C compiler is needed, on Debian apt-get install gcc: {}", text(&output));
    "./libchanged.so".into()
}

#[test]
fn check_finds_what_a_library_says_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, code, words) in [
        ("", "", 0, "✓ exports `pipeline_plugin` and nothing else"),
        ("static size_t window_bytes", "size_t window_bytes", 0, "! exports more than `pipeline_plugin`: window_bytes"),
        ("\"How many readings before this one are looked at.\\\"", "\"\\\"", 1, "✗ option `window` has no description"),
        (
            "\\\"minimum\\\": 2, \\\"maximum\\\": 100000",
            "\\\"minimum\\\": 2, \\\"maximum\\\": 1",
            1,
            "the minimum 2 and the maximum 1",
        ),
        ("type: zscore_c", "type: zscore", 1, "`type` in the example is \"zscore\", it must be `zscore_c`"),
        ("window: 30", "windw: 30", 1, "✗ the example has `windw`, which the schema does not know"),
        ("PIPELINE_ABI_MAJOR", "7", 1, "✗ cannot be loaded:"),
    ] {
        let library = zscore_with(from, to, folder.path());
        let output = sh(&format!("pipeline plugin check {library}"), folder.path());
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
        assert_eq!(output.status.code(), Some(code), "{words}");
    }
    let missing = sh("pipeline plugin check ./libnone.so", folder.path());
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("there is no plugin `./libnone.so`"), "{}", text(&missing));
}

#[test]
fn test_finds_laws_that_are_broken() {
    let folder = tempfile::tempdir().unwrap();
    let observe = "  int32_t has_score = score_of(zscore, past, reading->value, score);\n";
    for (from, to, words) in [
        // Memory of no series: it knows how often it was called.
        (
            observe,
            "  static int calls;\n  int32_t has_score = calls++ % 9 && score_of(zscore, past, reading->value, score);\n",
            "✗ batching does not matter           batching matters: in epoch ",
        ),
        (
            "  uint32_t kept = ",
            "  if (room) return PIPELINE_FATAL;\n  uint32_t kept = ",
            "`window` 30 → 2: it failed with an error of kind Fatal and no words",
        ),
        (
            observe,
            "  if (reading->value > 1e307) abort();\n  int32_t has_score = score_of(zscore, past, reading->value, score);\n",
            "it ended the process by signal 6 (abort); what comes after it was not tried",
        ),
        (
            "  if (past->count < zscore->min_samples) return 0;\n",
            "  if (past->count <= zscore->min_samples) return 0;\n",
            "✗ the same bytes as detector.zscore ",
        ),
    ] {
        let library = zscore_with(from, to, folder.path());
        let command = format!("pipeline plugin test {library} --stage zscore_c --like detector.zscore");
        let output = sh(&command, folder.path());
        assert_eq!(output.status.code(), Some(1), "{to}");
        assert!(text(&output).contains(words), "{words}: {}", text(&output));
    }
}

#[test]
fn bench_gives_a_line_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let library = zscore_with("", "", folder.path());
    let output = sh(&format!("pipeline plugin bench {library} --format json"), folder.path());
    assert!(output.status.success());
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    let measured = lines[0]["measured"].as_array().unwrap();
    assert_eq!(measured.iter().map(|line| line["series"].as_u64().unwrap()).collect::<Vec<_>>(), [10, 10_000]);
    for line in measured {
        assert_eq!(
            (&line["stage"], &line["built_in"]["stage"]),
            (&"detector.zscore_c".into(), &"detector.zscore".into())
        );
        assert!(1_000 < line["figures"]["rows_per_second"].as_u64().unwrap());
    }
}

//! What a release consists of, made by `.ci/package` from the binary under test: the archive runs where it is unpacked,
//! the Debian package is installed, runs, stops and is removed without a trace.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pipeline_services::{Finished, PipelineRun, eventually};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::production::{pipeline, repository};
use crate::scraped::Dashboard;

const LONG: Duration = Duration::from_secs(60);

/// Runs a program to its end, and gives what it says.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{said}");
    said
}

/// The folder of the packages, made once for all tests.
async fn packages() -> &'static Path {
    static PACKAGES: OnceCell<TempDir> = OnceCell::const_new();
    let made = PACKAGES.get_or_init(async || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut script = Command::new(repository().join(".ci/package"));
        script.args([env!("CARGO_BIN_EXE_pipeline").as_ref(), folder.path().as_os_str()]).env("COMPRESSION", "1");
        tokio::task::spawn_blocking(move || done(&mut script)).await.expect("it does not panic");
        folder
    });
    made.await.path()
}

/// The only file in a folder with this ending.
fn the_file(folder: &Path, ending: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "{ending} in {}: {found:?}", folder.display());
    found.into_iter().next().expect("one")
}

fn exists(root: &Path, paths: &[&str]) {
    let missing: Vec<&&str> = paths.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?} in {}", root.display());
}

#[tokio::test]
async fn the_unpacked_archive_runs_its_own_pipeline() {
    let archive = the_file(packages().await, ".tar.gz");
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    done(Command::new("tar").args(["--extract", "--file"]).arg(&archive).arg("--directory").arg(folder.path()));
    let name = archive.file_name().expect("a name").to_string_lossy().replace(".tar.gz", "");
    let root = folder.path().join(name);
    let completions = ["pipeline.bash", "_pipeline", "pipeline.fish"].map(|file| format!("completions/{file}"));
    exists(&root, &completions.each_ref().map(String::as_str));
    exists(&root, &["LICENSE", "THIRD-PARTY", "README.md", "CHANGELOG.md", "man/pipeline.1", "man/pipeline-run.1"]);
    exists(&root, &["systemd/pipeline@.service", "systemd/pipeline-as", "docs/stages/README.md"]);
    exists(&root, &["schemas/pipeline.schema.json", "pipelines/simulator.yaml"]);

    let run = PipelineRun::new(root.join("pipeline")).args(["run", "pipelines/iot.yaml"]);
    let mut run = run.args(["--dashboard", "127.0.0.1:0"]).current_dir(&root).without_variables().start();
    run.wait_for_line("ANOMALY", LONG).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    run.interrupt();
    run.wait_with_timeout(LONG).await.assert_code(0);
    exists(&root, &["pipelines/.pipeline/iot/iot.db"]);
}

/// Where the links of a page lead, without those to the web and to the page itself. What is code has none.
fn links(page: &str) -> Vec<String> {
    let (mut is_code, mut found) = (false, Vec::new());
    for line in page.lines() {
        is_code ^= line.trim_start().starts_with("```");
        // Without what stands between backticks.
        let line = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        if !is_code {
            found.extend(line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next().map(str::to_owned)));
        }
    }
    found.retain(|target| !target.is_empty() && !target.contains(':'));
    found
}

/// Finds that the pages in a folder lead to what is in it, and nowhere else.
fn lead_somewhere(root: &Path) {
    let root = root.canonicalize().expect("the folder is there");
    let found = done(Command::new("find").arg(&root).args(["-name", "*.md"]));
    let (mut n_links, mut dead) = (0, Vec::new());
    for page in found.lines().map(Path::new) {
        for target in links(&std::fs::read_to_string(page).expect("a page")) {
            n_links += 1;
            let to = page.parent().expect("a file is in a folder").join(&target).canonicalize();
            if !to.is_ok_and(|to| to.starts_with(&root)) {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(100 < n_links && dead.is_empty(), "{n_links} links, dead are {dead:#?}");
    let first = std::fs::read_to_string(root.join("README.md")).expect("it is there");
    assert!(10 < links(&first).len() && !first.contains("cargo") && !first.contains("HOMEPAGE"), "{first}");
}

#[tokio::test]
async fn no_link_of_the_packed_documents_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let archive = the_file(packages().await, ".tar.gz");
    let unpack = ["--extract", "--strip-components", "1", "--file"];
    done(Command::new("tar").args(unpack).arg(&archive).arg("--directory").arg(folder.path()));
    lead_somewhere(folder.path());
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    lead_somewhere(&root.path("/usr/share/doc/pipeline"));
}

#[tokio::test]
async fn whoever_is_in_the_binary_is_named_with_it() {
    let (archive, package) = (the_file(packages().await, ".tar.gz"), the_file(packages().await, ".deb"));
    let extract = ["--extract", "--to-stdout", "--wildcards", "*/THIRD-PARTY", "--file"];
    let in_archive = done(Command::new("tar").args(extract).arg(&archive));
    let root = Root::new();
    root.dpkg(&["--install", &package.display().to_string()]);
    let [named, copyright] = ["THIRD-PARTY", "copyright"]
        .map(|name| std::fs::read_to_string(root.path("/usr/share/doc/pipeline").join(name)).unwrap());
    assert!(named == in_archive && copyright.contains("/usr/share/doc/pipeline/THIRD-PARTY"));
    for notice in [
        "Copyright (c) 2012-2022, Magnus Edenhill",
        "Jean-loup Gailly and Mark Adler",
        "The author disclaims copyright to this source code",
        "Microsoft Research, Daan Leijen",
        "Plotly, Inc.",
    ] {
        assert!(named.contains(notice), "{notice}");
    }
    assert!(named.contains("\nopenssl-src 3") && 200 < named.matches("; https://").count());
    assert!(!named.contains(env!("CARGO_MANIFEST_DIR")), "a path of this machine");
}

#[tokio::test]
async fn the_same_binary_gives_the_same_packages() {
    let again = tempfile::tempdir().unwrap();
    let mut script = Command::new(repository().join(".ci/package"));
    script.args([env!("CARGO_BIN_EXE_pipeline").as_ref(), again.path().as_os_str()]).env("COMPRESSION", "1");
    done(&mut script);
    for ending in [".tar.gz", ".deb"] {
        let [one, other] = [packages().await, again.path()].map(|folder| the_file(folder, ending));
        assert_eq!(one.file_name(), other.file_name());
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap(), "{ending} differs");
    }
}

/// A root with nothing in it, into which `dpkg` installs.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for needed in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            std::fs::create_dir_all(folder.path().join(needed)).expect("the folder can be made");
        }
        std::fs::write(folder.path().join("var/lib/dpkg/status"), "").expect("the file can be written");
        Root(folder)
    }

    /// The scripts of the package run here and are told where the root is, as when a system is built for elsewhere.
    /// What the package depends on is on this machine.
    fn command(&self, args: &[&str]) -> Command {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.path().display()));
        dpkg.args(["--force-script-chrootless", "--force-depends", "--force-not-root", "--log=/dev/null"]).args(args);
        dpkg
    }

    fn dpkg(&self, args: &[&str]) -> String {
        done(&mut self.command(args))
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.0.path().join(absolute.trim_start_matches('/'))
    }

    /// All that is there, but for what dpkg notes.
    fn files(&self) -> Vec<String> {
        let found = done(Command::new("find").arg(self.0.path()).args(["-mindepth", "1", "-printf", "/%P\\n"]));
        let of_package = |path: &&str| !"/var/lib/dpkg".starts_with(path) && !path.starts_with("/var/lib/dpkg/");
        found.lines().filter(of_package).map(str::to_owned).collect()
    }
}

/// The unit of an instance, as systemd reads it.
struct Unit(String);

impl Unit {
    fn read(root: &Root, instance: &str) -> Self {
        let text = std::fs::read_to_string(root.path("/usr/lib/systemd/system/pipeline@.service")).expect("the unit");
        Unit(text.replace("%i", instance))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let start = format!("{name}=");
        self.0.lines().filter_map(move |line| line.strip_prefix(&start))
    }

    /// What `systemctl start` would run, in this root: the command, its arguments and its environment.
    fn command(&self, root: &Root, args: &str) -> PipelineRun {
        let start = self.values("ExecStart").next().expect("a command");
        let words = start.split(' ').flat_map(|word| match word {
            "$PIPELINE_ARGS" => args.split(' ').map(str::to_owned).collect(),
            path if path.starts_with('/') => vec![root.path(path).display().to_string()],
            word => vec![word.to_owned()],
        });
        let words: Vec<String> = words.collect();
        let mut run = PipelineRun::new(&words[0]).args(&words[1..]);
        for (name, value) in self.values("Environment").filter_map(|pair| pair.split_once('=')) {
            run = run.env(name, root.path(value));
        }
        run
    }
}

/// A command with what the service has, as an operator types it.
fn as_service(root: &Root, instance: &str, args: &[&str]) -> Command {
    let mut command = Command::new(root.path("/usr/sbin/pipeline-as"));
    command.env("DPKG_ROOT", root.0.path()).arg(instance).args(args);
    command
}

/// What systemd does at a stop: SIGTERM, and SIGKILL when the time is over.
async fn stopped(run: pipeline_services::RunningPipeline, unit: &Unit) -> Finished {
    assert_eq!(unit.values("KillSignal").next(), None, "SIGTERM is the default");
    let seconds = unit.values("TimeoutStopSec").next().and_then(|time| time.strip_suffix('s')).expect("a time");
    run.terminate();
    run.wait_with_timeout(Duration::from_secs(seconds.parse().expect("a number"))).await
}

#[tokio::test]
async fn the_debian_package_is_installed_runs_stops_and_is_removed() {
    let root = Root::new();
    let package = the_file(packages().await, ".deb").display().to_string();
    root.dpkg(&["--install", &package]);
    assert!(root.dpkg(&["--status", "pipeline"]).contains("Status: install ok installed"));
    exists(
        root.0.path(),
        &["usr/bin/pipeline", "usr/share/man/man1/pipeline.1.gz", "usr/share/doc/pipeline/copyright"],
    );
    exists(root.0.path(), &["usr/share/bash-completion/completions/pipeline", "etc/pipeline/secrets"]);

    std::fs::copy(root.path("/usr/share/doc/pipeline/examples/iot.yaml"), root.path("/etc/pipeline/iot.yaml")).unwrap();
    let unit = Unit::read(&root, "iot");
    // What `StateDirectory` makes.
    let state = format!("/var/lib/{}", unit.values("StateDirectory").next().expect("a folder"));
    std::fs::create_dir_all(root.path(&state)).unwrap();
    for _ in ["started", "started again"] {
        let mut run = unit.command(&root, "--dashboard 127.0.0.1:0").start();
        let url = Dashboard::of(&mut run).await.url;
        let is_ready = async || pipeline().args(["health", "--ready", &url]).start().wait().await.code == Some(0);
        eventually(LONG, "the service is ready", is_ready).await;
        run.wait_for_line("ANOMALY", LONG).await;
        stopped(run, &unit).await.assert_code(0);
    }
    exists(&root.path(&state), &["iot.db", "state"]);

    // The same version again is an upgrade, too.
    root.dpkg(&["--install", &package]);
    root.dpkg(&["--remove", "pipeline"]);
    assert!(!root.path("/usr/bin/pipeline").exists() && root.path("/etc/pipeline/iot.yaml").exists());
    exists(&root.path(&state), &["iot.db"]);
    root.dpkg(&["--purge", "pipeline"]);
    let left = root.files();
    let is_folder_of_all = |path: &String| ["/etc", "/var", "/var/lib"].contains(&path.as_str());
    assert_eq!(left.into_iter().filter(|path| !is_folder_of_all(path)).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn commands_find_what_the_service_has() {
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    let file = root.path("/etc/pipeline/iot.yaml");
    std::fs::copy(root.path("/usr/share/doc/pipeline/examples/iot.yaml"), &file).unwrap();
    let (unit, file) = (Unit::read(&root, "iot"), file.display().to_string());
    std::fs::create_dir_all(root.path("/var/lib/pipeline/iot")).unwrap();
    let mut run = unit.command(&root, "--dashboard 127.0.0.1:0").start();
    run.wait_for_line("ANOMALY", LONG).await;
    let said = done(&mut as_service(&root, "iot", &["diff", &file]));
    assert!(said.contains("spikes     keep"), "{said}");
    stopped(run, &unit).await.assert_code(0);

    let backup = root.path("/iot.jsonl").display().to_string();
    done(&mut as_service(&root, "iot", &["state", &file, "export", "--out", &backup]));
    std::fs::rename(root.path("/var/lib/pipeline/iot/state"), root.path("/before")).unwrap();
    let refused = as_service(&root, "iot", &["state", &file, "show"]).output().unwrap();
    assert!(!refused.status.success(), "the code is that of the command");
    done(&mut as_service(&root, "iot", &["state", &file, "import", "--in", &backup]));
    let said = done(&mut as_service(&root, "iot", &["state", &file, "show"]));
    assert!(said.contains("spikes (detector.zscore) keeps"), "{said}");
    let mode = std::fs::metadata(root.path("/var/lib/pipeline/iot/state/log.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else can read what it writes");
    let mut run = unit.command(&root, "--dashboard 127.0.0.1:0").start();
    run.wait_for_line("ANOMALY", LONG).await;
    stopped(run, &unit).await.assert_code(0);
}

#[tokio::test]
async fn commands_have_the_variables_of_the_unit_and_of_the_file() {
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    let variables = |root: &Root| {
        // `env`, as another binary of theirs, prints what it is given.
        done(as_service(root, "iot", &["-u", "HOME"]).env("PIPELINE", "/usr/bin/env"))
    };
    let (unit, said) = (Unit::read(&root, "iot"), variables(&root));
    for (name, path) in unit.values("Environment").filter_map(|pair| pair.split_once('=')) {
        assert!(said.lines().any(|line| line == format!("{name}={}", root.path(path).display())), "{name}: {said}");
    }
    let file = "# brokers\n; more\nKAFKA_BROKERS=a:1,b:2\nPIPELINE_ARGS=--dashboard off\nQUOTED=\"a $b\"\nSTATE=/else";
    std::fs::write(root.path("/etc/pipeline/iot.env"), file).unwrap();
    let said = variables(&root);
    for line in ["KAFKA_BROKERS=a:1,b:2", "PIPELINE_ARGS=--dashboard off", "QUOTED=a $b", "STATE=/else"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
}

#[tokio::test]
async fn each_service_is_given_its_own_secrets() {
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    for name in ["iot", "weather"] {
        let (unit, folder) = (Unit::read(&root, name), format!("/etc/pipeline/secrets/{name}"));
        assert_eq!(unit.values("LoadCredential").collect::<Vec<_>>(), [format!("secret:{folder}")]);
        // systemd starts nothing whose folder is missing, so it is told to make it.
        let made: Vec<String> = unit.values("ConfigurationDirectory").map(|made| format!("/etc/{made}")).collect();
        assert_eq!(made, [folder]);
        assert_eq!(unit.values("ConfigurationDirectoryMode").collect::<Vec<_>>(), ["0700"]);
    }
}

#[tokio::test]
async fn an_upgrade_gives_each_pipeline_the_secrets_that_all_of_them_had() {
    let root = Root::new();
    let package = the_file(packages().await, ".deb").display().to_string();
    root.dpkg(&["--install", &package]);
    let unit = root.path("/usr/lib/systemd/system/pipeline@.service");
    let installed = std::fs::read_to_string(&unit).unwrap();
    std::fs::write(&unit, installed.replace("/etc/pipeline/secrets/%i", "/etc/pipeline/secrets")).unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path("/etc/pipeline").join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let read = |path: &str| std::fs::read_to_string(root.path("/etc/pipeline/secrets").join(path)).ok();
    for pipeline in ["iot.yaml", "weather.yaml"] {
        write(pipeline, "");
    }
    write("secrets/kafka", "hush");
    write("secrets/weather", "a key");
    let refused = root.command(&["--install", &package]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("give the file another name"), "{said}");

    std::fs::rename(root.path("/etc/pipeline/secrets/weather"), root.path("/etc/pipeline/secrets/key")).unwrap();
    write("secrets/iot/kafka", "its own");
    let said = root.dpkg(&["--install", &package]);
    assert!(said.contains("each pipeline has its own secrets now"), "{said}");
    assert_eq!(read("iot/kafka").as_deref(), Some("its own"), "what is there already stays");
    let copied = ["iot/key", "weather/kafka", "weather/key"].map(|secret| read(secret).unwrap_or_default());
    assert_eq!(copied, ["a key", "hush", "a key"]);
    let mode = std::fs::metadata(root.path("/etc/pipeline/secrets/weather")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // What is put there later is nobody's.
    write("secrets/late", "hush");
    root.dpkg(&["--install", &package]);
    assert_eq!(read("iot/late"), None);
}

#[tokio::test]
async fn a_pipeline_that_cannot_run_is_not_started_again_and_again() {
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    let unit = Unit::read(&root, "missing");
    let ended = unit.command(&root, "--dashboard off").start().wait().await;
    let never_again = unit.values("RestartPreventExitStatus").next().expect("a code");
    assert_eq!(ended.code.map(|code| code.to_string()).as_deref(), Some(never_again), "{}", ended.stderr);
}

#[tokio::test]
async fn systemd_takes_the_unit_and_finds_little_that_it_may_do() {
    let root = Root::new();
    root.dpkg(&["--install", &the_file(packages().await, ".deb").display().to_string()]);
    let binary = root.path("/usr/bin/pipeline").display().to_string();
    let installed = std::fs::read_to_string(root.path("/usr/lib/systemd/system/pipeline@.service")).unwrap();
    let unit = root.path("/pipeline@iot.service");
    std::fs::write(&unit, installed.replace("/usr/bin/pipeline", &binary)).unwrap();
    let said = done(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    assert_eq!(said, "", "a warning is a mistake, too");
    // 2.0 of 10, where 10 is everything.
    done(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&unit));
}

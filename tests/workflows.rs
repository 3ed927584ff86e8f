//! What the server does: a change is checked on a machine that has all that the checks ask for, and what takes too long
//! for a change is done every night. Commands for Docker and Kubernetes, which no test here can run, it runs as they are
//! documented.

use crate::containers::{root, text};

/// What the runners of `ci.yml` have of themselves, out of what `.ci/run` asks for. They have Docker, too, and a Java of
/// their own in the place of Debian's.
const ON_RUNNERS: [&str; 10] =
    ["gcc", "g++", "make", "python3", "python3-venv", "curl", "systemd", "openssl", "default-jre-headless", "maven"];

/// The packages that `.ci/run` calls missing where there is Docker.
fn asked_for(run: &str) -> Vec<&str> {
    let (_, asked) = run.split_once("\nmissing_packages() {").expect("the function");
    let (asked, _) = asked.split_once("docker info").expect("what follows is for machines without Docker");
    asked.lines().filter_map(|line| line.rsplit_once(" || echo ")).map(|(_, package)| package).collect()
}

#[test]
fn a_runner_has_every_package_that_the_checks_ask_for() {
    let (run, workflow) = (text(".ci/run"), text(".github/workflows/ci.yml"));
    let install = "sudo apt-get install --yes --no-install-recommends ";
    let installed = workflow.lines().find_map(|line| line.trim_start().strip_prefix(install)).expect("packages");
    let installed: Vec<&str> = installed.split(' ').collect();
    let asked = asked_for(&run);
    let has = |package: &&str| ON_RUNNERS.contains(package) || installed.contains(package);
    assert_eq!(asked.iter().copied().filter(|package| !has(package)).collect::<Vec<_>>(), [""; 0]);
    assert!(10 <= asked.len() && installed.iter().all(|package| asked.contains(package)), "{asked:?}");

    // Its package would start a broker; tests start their own.
    let masked = workflow.find("/dev/null /etc/systemd/system/mosquitto.service").expect("it is masked");
    assert!(masked < workflow.find(install).expect("packages"), "masked before it is installed");
}

/// The commands of a target in the Makefile.
fn commands<'a>(makefile: &'a str, target: &str) -> &'a str {
    let (_, commands) = makefile.split_once(&format!("\n{target}:\n")).expect("the target");
    commands.split("\n\n").next().expect("the first part")
}

#[test]
fn the_memory_of_ten_minutes_is_judged_every_night_and_of_what_is_released() {
    let (makefile, nightly) = (text("Makefile"), text(".github/workflows/nightly.yml"));
    assert!(nightly.contains("- run: make soak\n"));
    let built = |target| {
        let mut words = commands(&makefile, target).lines().next().expect("a build").split(' ');
        words.by_ref().find(|word| *word == "build").expect("a build");
        words.filter(|word| *word != "--locked").collect::<Vec<_>>()
    };
    assert_eq!(built("soak"), built("dist"), "the options of the build");
}

/// A text without what stands before its lines; one that ends with a backslash goes on in the next.
fn joined(text: &str) -> String {
    let mut joined = String::new();
    for line in text.lines().map(str::trim) {
        match line.strip_suffix('\\') {
            Some(begun) => joined.push_str(begun),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined
}

/// Whether a command needs Docker or Kubernetes, and says all that is to be typed: `helm upgrade` is only a name.
fn is_for_containers(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["make", target] => ["up", "down", "down-volumes"].contains(target),
        ["helm" | "kubectl", _, _, ..] | ["docker", "run" | "volume", _, ..] => true,
        _ => false,
    }
}

/// The commands of a page that need Docker or Kubernetes, in blocks and within sentences.
fn documented(page: &str) -> Vec<String> {
    let (mut found, mut is_block) = (Vec::new(), false);
    for line in joined(page).lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            let command = line.split(" #").next().unwrap_or(line);
            found.push(command.trim_start_matches("$ ").trim_end().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.retain(|command| is_for_containers(command));
    found
}

/// What stands in the documentation for what is everybody's own, and what `docker.yml` has there.
const OURS: [(&str, &str); 2] = [("ghcr.io/OWNER", "localhost:5000/owner"), ("…", "secret")];

#[test]
fn commands_for_containers_are_run_as_they_are_documented() {
    let workflow = joined(&text(".github/workflows/docker.yml"));
    let lines = workflow.lines().map(|line| line.trim_start_matches("- ").trim_start_matches("run: "));
    let run: Vec<&str> = lines.map(|line| line.trim_end_matches(" &")).collect();

    let mut pages: Vec<String> =
        ["README.md", "docker/README.md", "docker/helm/pipeline/README.md"].map(Into::into).into();
    let docs = std::fs::read_dir(root().join("docs")).expect("the folder is there");
    let names = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()));
    pages.extend(names.filter(|name| name.ends_with(".md")));

    let mut n_commands = 0;
    for page in pages {
        for command in documented(&text(&page)) {
            let ours = OURS.iter().fold(command.clone(), |ours, (documented, own)| ours.replace(documented, own));
            assert!(run.contains(&ours.as_str()), "{page}: `{command}`: docker.yml has no line `{ours}`");
            n_commands += 1;
        }
    }
    assert!(15 <= n_commands, "only {n_commands}");
}

#[test]
fn commands_are_found_in_blocks_and_within_sentences() {
    let page = "Say `make up`, or `make test`.\n```sh\nmake down    # stops\nhelm install a b \\\n  --set c=d\n```\n`helm test`\n";
    assert_eq!(documented(page), ["make up", "make down", "helm install a b --set c=d"]);
}

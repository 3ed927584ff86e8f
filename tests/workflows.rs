//! What the server does: a change is checked on a machine that has all that the checks ask for, and what takes too long
//! for a change is done every night.

use crate::containers::text;

/// What the runners of `ci.yml` have of themselves, out of what `.ci/run` asks for. They have Docker, too.
const ON_RUNNERS: [&str; 8] = ["gcc", "g++", "make", "python3", "python3-venv", "curl", "systemd", "openssl"];

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

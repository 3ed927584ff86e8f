//! What a container engine would be told: `docker/compose.yaml` and `docker/Dockerfile` are right as far as that can be
//! seen without one. `tests/composed.rs` starts the same processes by hand; a workflow starts the containers.

mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use pipeline_runtime::file::{LoadOptions, PipelineFile};
use serde_json::{Map, Value, json};

use variables::replaced;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    let parsed =
        PipelineFile::parse("compose.yaml", &text("docker/compose.yaml"), Path::new("."), &LoadOptions::default());
    parsed.unwrap_or_else(|report| panic!("{}", report.render(false))).root.to_json()
}

fn services(compose: &Value) -> &Map<String, Value> {
    compose["services"].as_object().expect("services")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_str).collect()
}

/// The lines of the Dockerfile that begin with a word, without it; a line that goes on is one.
pub fn instructions(word: &str) -> Vec<String> {
    let dockerfile = text("docker/Dockerfile").replace("\\\n", " ");
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::to_owned));
    lines.collect()
}

#[test]
fn the_compose_file_is_valid_by_the_specification() {
    let schema: Value = serde_json::from_str(&text("tests/containers/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let mistakes = |compose: &Value| -> Vec<String> {
        validator.iter_errors(compose).map(|error| format!("{}: {error}", error.instance_path())).collect()
    };
    let mut compose = compose();
    assert_eq!(mistakes(&compose), [""; 0]);
    compose["services"]["kafka"]["helthcheck"] = Value::Null;
    assert_eq!(mistakes(&compose).len(), 1, "the schema finds a slip of the pen");
}

/// `name:1.2.3@sha256:…`: the tag is for people and for what updates it, the digest is what is used.
pub fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    is_digest && tag != "latest"
}

#[test]
fn every_image_of_others_is_pinned_to_a_tag_and_a_digest() {
    let compose = compose();
    let images = services(&compose).values().map(|service| service["image"].as_str().expect("an image"));
    let (ours, mut others): (Vec<String>, Vec<String>) =
        images.map(Into::into).partition(|image: &String| image == "${PIPELINE_IMAGE:-pipeline:dev}");
    assert_eq!(ours.len(), 4, "the pipeline, the simulator, the weather and what looks for its key");
    let stages: Vec<String> =
        instructions("FROM").iter().filter_map(|from| from.split(" AS ").nth(1)).map(Into::into).collect();
    let bases = instructions("FROM").into_iter().filter_map(|from| from.split(' ').next().map(str::to_owned));
    others.extend(bases.filter(|base| !stages.contains(base)));
    assert_eq!(others.len(), 7, "{others:?}");
    assert_eq!(others.into_iter().filter(|image| !is_pinned(image)).collect::<Vec<_>>(), [""; 0]);
    assert!(!is_pinned("postgres:17"));
}

/// The names in `.env.example`, those that are commented out, too, and what they are there.
fn example() -> BTreeMap<String, String> {
    let example = text("docker/.env.example");
    let settings = example.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let settings = settings.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    settings.map(|(name, value)| (name.into(), value.into())).collect()
}

/// The names without a value under `environment:` of the services: those get them from `.env`, if they are set there.
fn passed_on() -> BTreeSet<String> {
    let compose = compose();
    let environments = services(&compose).values().filter_map(|service| service["environment"].as_object());
    environments.flatten().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_variable_is_explained_and_has_a_value() {
    let (compose, example, passed_on) = (text("docker/compose.yaml"), example(), passed_on());
    let set = text("docker/.env.example");
    assert_eq!(passed_on.iter().collect::<Vec<_>>(), ["PIPELINE_METRICS_TOKEN"]);
    // It would be empty, which is not the same as missing: a token is then refused.
    let is_set = |name: &String| set.lines().any(|line| line.starts_with(&format!("{name}=")));
    assert!(!passed_on.iter().any(is_set), "{passed_on:?}");
    let (mut used, mut missing) = (BTreeSet::from(["COMPOSE_PROFILES".to_owned()]), Vec::new());
    replaced(&compose, |variable| {
        used.insert(variable.name.to_owned());
        let is_set = set.lines().any(|line| line.starts_with(&format!("{}=", variable.name)));
        if !is_set && variable.default.is_none() {
            missing.push(variable.name.to_owned());
        }
        String::new()
    });
    used.extend(passed_on);
    assert_eq!(missing, [""; 0], "neither set in .env.example nor with a default");
    assert_eq!(used, example.into_keys().collect(), "used in compose.yaml, and explained in .env.example");
}

#[test]
fn every_profile_is_one_that_the_example_names() {
    let compose = compose();
    let profiles: BTreeSet<&str> =
        services(&compose).values().flat_map(|service| texts(&service["profiles"])).collect();
    let (named, on) = (text("docker/.env.example"), example());
    let on: BTreeSet<&str> = on["COMPOSE_PROFILES"].split(',').collect();
    assert!(profiles.iter().all(|profile| named.contains(&format!("`{profile}`"))), "{profiles:?}");
    // The weather needs a key that nobody has by default.
    assert_eq!(profiles.difference(&on).copied().collect::<Vec<_>>(), ["openweather"]);
    assert!(on.is_subset(&profiles), "{on:?}");
}

#[test]
fn everything_that_is_mounted_exists() {
    let compose = compose();
    let declared: BTreeSet<&str> =
        compose["volumes"].as_object().expect("volumes").keys().map(String::as_str).collect();
    let mounts = services(&compose).values().flat_map(|service| texts(&service["volumes"]));
    let (files, volumes): (Vec<&str>, Vec<&str>) = mounts.partition(|mount| mount.starts_with('.'));
    let used: BTreeSet<&str> = volumes.iter().filter_map(|mount| mount.split(':').next()).collect();
    assert_eq!(used, declared);
    assert!(3 <= files.len());
    for file in files {
        let path = root().join("docker").join(file.split(':').next().expect("a path"));
        assert!(path.exists(), "{}", path.display());
        assert!(file.ends_with(":ro"), "{file}");
    }
}

#[test]
fn what_waits_for_the_health_of_a_service_can_be_told_of_it() {
    let (compose, image) = (compose(), instructions("HEALTHCHECK").len());
    let has_check =
        |service: &Value| service["healthcheck"].is_object() || (service["build"].is_object() && image == 1);
    for (name, service) in services(&compose) {
        for (other, condition) in service["depends_on"].as_object().into_iter().flatten() {
            let other = services(&compose).get(other).unwrap_or_else(|| panic!("{name} waits for {other}"));
            match condition["condition"].as_str().expect("a condition") {
                "service_healthy" => assert!(has_check(other), "{name}: {other}"),
                "service_completed_successfully" => assert_eq!(other["restart"], "no", "{name}: {other}"),
                condition => panic!("{name} waits for no more than {condition}"),
            }
        }
        assert!(has_check(service) || service["restart"] == "no", "{name} runs, and nothing says how it is");
    }
}

#[test]
fn containers_may_do_no_more_than_they_need() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let ports = texts(&service["ports"]);
        assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}: {ports:?}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        // The server of PostgreSQL begins as root.
        let begins_as_root = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];
        let added = if name == "postgres" { begins_as_root.to_vec() } else { Vec::new() };
        assert_eq!(texts(&service["cap_add"]), added, "{name}");
        // Of these images nobody says where they write.
        let may_write = ["grafana", "kafka", "postgres", "topics"].contains(&name.as_str());
        assert_eq!(service["read_only"] == true, !may_write, "{name}");
    }
    assert_eq!(instructions("USER"), ["65532:65532"]);
}

#[test]
fn no_container_takes_the_whole_machine() {
    let compose = compose();
    let logging = json!({ "driver": "json-file", "options": { "max-size": "10m", "max-file": "3" } });
    for (name, service) in services(&compose) {
        let memory = service["mem_limit"].as_str().unwrap_or_else(|| panic!("{name} may have all memory"));
        assert!(["512m", "1g", "1536m"].contains(&memory), "{name}: {memory}");
        assert_eq!(service["pids_limit"], 1024, "{name}");
        assert_eq!(service["logging"], logging, "{name}");
    }
}

#[test]
fn prometheus_has_the_token_of_the_metrics_where_its_file_says() {
    let compose = compose();
    let [pipeline, prometheus] = ["pipeline", "prometheus"].map(|name| &services(&compose)[name]);
    for service in [pipeline, prometheus] {
        let passed_on = service["environment"].get("PIPELINE_METRICS_TOKEN");
        assert_eq!(passed_on, Some(&Value::Null), "a value would be empty without a token, and refused");
    }
    let scraped = text("docker/prometheus/prometheus.yml");
    let file = scraped.lines().find_map(|line| line.strip_prefix("    #   credentials_file: ")).expect("a file");
    let (folder, file_name) = file.rsplit_once('/').expect("a folder");
    assert_eq!(prometheus["read_only"], true);
    assert_eq!(texts(&prometheus["tmpfs"]), [format!("{folder}:size=64k,mode=1777")]);

    let here = tempfile::tempdir().unwrap();
    let words: Vec<String> = texts(&prometheus["entrypoint"])
        .iter()
        .map(|word| word.replace("$$", "$").replace("/bin/prometheus", "echo"))
        .map(|word| word.replace(folder, &here.path().display().to_string()))
        .collect();
    for token in [None, Some("secret")] {
        let mut start = Command::new(&words[0]);
        start.args(&words[1..]).arg("--config.file=a b").env_remove("PIPELINE_METRICS_TOKEN");
        start.envs(token.map(|token| ("PIPELINE_METRICS_TOKEN", token)));
        let started = start.output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&started.stdout), "--config.file=a b\n", "{started:?}");
        let written = std::fs::read_to_string(here.path().join(file_name)).expect("the file");
        assert_eq!(written, token.unwrap_or_default());
    }
}

#[test]
fn prometheus_and_grafana_are_told_of_services_that_there_are() {
    let compose = compose();
    let services = services(&compose);
    let scraped = text("docker/prometheus/prometheus.yml");
    assert!(scraped.contains("names: [pipeline]") && services.contains_key("pipeline"));
    assert!(scraped.contains("port: 8080") && instructions("EXPOSE") == ["8080"]);
    let source = text("docker/grafana/provisioning/datasources/prometheus.yml");
    assert!(source.contains("http://prometheus:9090") && services.contains_key("prometheus"));
}

/// Whether `.dockerignore` lets a path into the build.
fn is_sent(path: &str) -> bool {
    let ignored = text(".dockerignore");
    let sent = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    sent.into_iter().any(|sent| path.trim_end_matches('/') == sent || path.starts_with(&format!("{sent}/")))
}

#[test]
fn the_image_names_whoever_is_in_it() {
    let copied = instructions("COPY");
    for copy in [
        "LICENSE /usr/share/doc/pipeline/LICENSE",
        "--from=build /build/THIRD-PARTY /usr/share/doc/pipeline/THIRD-PARTY",
    ] {
        assert!(copied.iter().any(|copied| copied == copy), "{copy} is not among {copied:?}");
    }
    assert!(is_sent(".ci/third-party") && root().join(".ci/third-party").exists());
    assert!(instructions("RUN").iter().any(|run| run.contains(" .ci/third-party THIRD-PARTY ")));
    assert!(instructions("RUN").iter().any(|run| run.contains(" python3 ")), "what it is written in");
}

#[test]
fn what_the_image_is_built_of_exists_and_is_sent() {
    let mut copied = 0;
    for copy in instructions("COPY").iter().filter(|copy| !copy.starts_with("--from")) {
        let source = copy.split(' ').next().expect("a source");
        copied += 1;
        assert!(root().join(source).exists() && (source == "." || is_sent(source)), "{source}");
    }
    assert_eq!(copied, 5);
    // What configures OpenSSL is needed where the dependencies are built; cargo is told of it by a file that is in their recipe.
    let configures = "plugins/kafka/configure-openssl";
    assert!(text(".cargo/config.toml").contains(&format!("\"{configures}\"")) && is_sent(".cargo/config.toml"));
    assert!(instructions("COPY").contains(&format!("{configures} {configures}")));
    let manifest = text("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    for member in members.split(", ").map(|member| member.trim_matches('"').trim_end_matches("/*")) {
        assert!(is_sent(member), "{member} is no part of the build");
    }
    assert!(is_sent("Cargo.lock") && !is_sent("docs/install.md") && !is_sent(".git/config"));
}

#[test]
fn the_health_check_and_the_commands_are_of_the_binary() {
    assert_eq!(instructions("ENTRYPOINT"), [r#"["/usr/bin/pipeline"]"#]);
    assert!(instructions("HEALTHCHECK")[0].ends_with(r#"CMD ["/usr/bin/pipeline", "health"]"#));
    assert_eq!(instructions("CMD"), [r#"["run", "/etc/pipeline/iot.yaml"]"#]);
}

#[test]
fn each_new_password_is_another() {
    let new_env = || {
        let output = Command::new(root().join("docker/new-env")).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let (env, other) = (new_env(), new_env());
    let passwords = |env: &str| -> BTreeSet<String> {
        let named = |name: &str| ["PASSWORD", "TOKEN"].iter().any(|word| name.ends_with(word));
        let set = env.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let set = set.filter(|(name, _)| named(name));
        set.map(|(_, value)| value.to_owned()).collect()
    };
    assert_eq!(passwords(&env).union(&passwords(&other)).count(), 8, "{env}");
    assert!(passwords(&env).iter().all(|password| password.len() == 32), "{env}");
    assert_eq!(env.lines().count(), text("docker/.env.example").lines().count());
}

//! Plans of files that name libraries.

use std::sync::Arc;

use pipeline_stage::StageType;

use super::stages::{JumpOptions, TableOptions, Words};
use super::*;

const FILE: &str = r#"
name: iot
plugins: [jolt]
sources:
  readings: { type: numbers }
detectors:
  jumps: { type: jolt, inputs: readings, value: value }
sinks:
  history: { type: table, inputs: jumps, url: x, table: data }
profiles:
  other:
    plugins: [./libjump.so]
    detectors: { jumps: { type: jump } }
  without:
    plugins: ~
"#;

/// Knows a few libraries by what the file calls them.
#[derive(Debug)]
struct Libraries;

impl LoadPlugins for Libraries {
    fn load(&self, plugin: &PluginRef, directory: &Path) -> Result<Vec<StageType>> {
        assert_eq!(directory, Path::new("folder"));
        if plugin.sha256.as_deref().is_some_and(|sum| sum != GOOD_SUM) {
            return Err(StageError::config("the SHA-256 is another").at_option("sha256"));
        }
        let (library, name, stage) = match plugin.path.as_str() {
            "jolt" | "./libjolt.so" => ("/x/libjolt.so", "jolt", StageType::detector::<JumpOptions>()),
            "./libjump.so" => ("/x/libjump.so", "jump", StageType::detector::<JumpOptions>()),
            "other" => ("/x/libother.so", "jump", StageType::detector::<JumpOptions>()),
            "vault" => ("/x/libvault.so", "vault", StageType::sink::<TableOptions>()),
            "signs" => ("/x/libsigns.so", "signs", StageType::format::<Words>()),
            path => return Err(StageError::config(format!("there is no `{path}`"))),
        };
        Ok(vec![StageType { name: name.into(), library: Some(library.into()), ..stage }])
    }
}

const GOOD_SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn with_libraries() -> LoadOptions {
    LoadOptions { plugins: Some(Arc::new(Libraries)), ..LoadOptions::default() }
}

fn plan_with(text: &str, options: &LoadOptions) -> Result<Plan, Report> {
    load_text("iot.yaml", text, Path::new("folder"), options, &registry()).map(|(plan, _)| plan)
}

fn good_plan(text: &str, options: &LoadOptions) -> Plan {
    plan_with(text, options).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

/// What is said of a file that names these libraries.
fn said_of(plugins: &str) -> String {
    let text = FILE.replace("plugins: [jolt]", &format!("plugins: {plugins}"));
    plan_with(&text, &with_libraries()).err().map(|report| report.render(false)).unwrap_or_default()
}

/// The library of the built-in detector's name.
fn library_of(plan: &Plan, name: &str) -> Option<String> {
    plan.registry.find(Kind::Detector, name).unwrap().library.as_deref().map(str::to_owned)
}

#[test]
fn a_file_names_the_stages_of_its_libraries() {
    let built_in = registry();
    let (plan, _) = load_text("iot.yaml", FILE, Path::new("folder"), &with_libraries(), &built_in).ok().unwrap();
    assert_eq!(plan.stages[1].type_name, "jolt");
    assert_eq!(library_of(&plan, "jolt").as_deref(), Some("/x/libjolt.so"));
    assert!(built_in.find(Kind::Detector, "jolt").is_none(), "another file does not know them");
}

#[test]
fn a_file_without_libraries_keeps_the_registry() {
    let built_in = registry();
    let text = FILE.replace("plugins: [jolt]", "").replace("type: jolt", "type: jump");
    let (plan, _) = load_text("iot.yaml", &text, Path::new("folder"), &with_libraries(), &built_in).ok().unwrap();
    assert!(Arc::ptr_eq(&plan.registry, &built_in));
}

#[test]
fn a_stored_definition_names_no_library_and_is_read_with_the_current_ones() {
    let plan = good_plan(FILE, &with_libraries());
    assert!(!plan.definition.contains("plugins"), "{}", plan.definition);
    let again = load_definition(&plan.definition, &plan, Environment::default()).ok().unwrap();
    assert_eq!(again.stages[1].type_name, "jolt");
}

#[test]
fn profiles_and_arguments_change_which_libraries_are_loaded() {
    let other = LoadOptions { profile: Some("other".into()), ..with_libraries() };
    let said = plan_with(FILE, &other).err().unwrap().render(false);
    assert!(said.contains("one is built in, one is in `/x/libjump.so`"), "{said}");
    let without = LoadOptions { profile: Some("without".into()), ..with_libraries() };
    let said = plan_with(FILE, &without).err().unwrap().render(false);
    assert!(said.contains("no detector is called `jolt`"), "{said}");
    let set = LoadOptions { set: vec!["plugins=[./libjolt.so, signs]".into()], ..with_libraries() };
    let plan = good_plan(FILE, &set);
    assert!(plan.registry.find(Kind::Format, "signs").is_some());
}

#[test]
fn a_library_takes_the_place_of_a_built_in_stage_when_it_is_told_to() {
    let text = FILE.replace("[jolt]", "[jolt, { path: ./libjump.so, replaces: true }]");
    assert_eq!(library_of(&good_plan(&text, &with_libraries()), "jump").as_deref(), Some("/x/libjump.so"));
    let said = said_of("[jolt, { path: ./libjump.so, replaces: true }, { path: other, replaces: true }]");
    assert!(said.contains("one is in `/x/libjump.so`, one is in `/x/libother.so`"), "{said}");
}

#[test]
fn what_is_wrong_with_a_library_is_told_at_its_entry() {
    for (plugins, words, place) in [
        ("[jolt, nolt]", "there is no `nolt`", "3:17"),
        ("[jolt, ./libjump.so]", "with `replaces: true` the library's is used", "3:17"),
        ("[jolt, ./libjolt.so]", "the library `./libjolt.so` is named twice", "3:17"),
        ("[{ path: jolt, sha256: abc }]", "`sha256` is `abc`, it must be 64 hexadecimal digits", "3:33"),
        ("[{ path: jolt, sha256: 12 }]", "`plugins.0.sha256` is 12, it must be text", "3:33"),
        (&format!("[{{ path: jolt, sha256: f{} }}]", &GOOD_SUM[1..]), "the SHA-256 is another", "3:33"),
        ("[{ path: jolt, sha: abc }]", "unknown option `sha` in `plugins.0`", "3:25"),
        ("[{ sha256: abc }]", "`plugins.0.path` is missing", "3:11"),
        ("[{ path: jolt, replaces: 3 }]", "`plugins.0.replaces` is 3, it must be", "3:35"),
        ("[7]", "`plugins.0` is 7, it must be", "3:11"),
        ("['']", "the path of a library is missing", "3:11"),
        ("[\"${NONE}\"]", "NONE", "3:"),
        ("jolt", "`plugins` is the text `jolt`, it must be a list", "3:10"),
    ] {
        let said = said_of(plugins);
        assert!(said.contains(words) && said.contains(&format!("iot.yaml:{place}")), "{plugins}: {words}\n{said}");
        assert!(said.ends_with("1 error\n"), "{plugins}: the types it may hold are no mistakes\n{said}");
    }
}

#[test]
fn without_a_loader_libraries_are_an_error() {
    let said = plan_with(FILE, &LoadOptions::default()).err().unwrap().render(false);
    assert!(said.contains("libraries cannot be loaded here") && said.ends_with("1 error\n"), "{said}");
}

#[test]
fn a_format_may_stand_in_a_library_that_was_not_loaded() {
    let text = r#"
name: iot
plugins: [PLUGIN]
sources:
  readings: { type: lines, topic: iot, format: signs, schema: { value: float } }
sinks:
  history: { type: table, inputs: readings, url: x, table: data }
"#;
    good_plan(&text.replace("PLUGIN", "signs"), &with_libraries());
    let said = plan_with(&text.replace("PLUGIN", "sings"), &with_libraries()).err().unwrap().render(false);
    assert!(said.contains("there is no `sings`") && said.ends_with("1 error\n"), "{said}");
}

#[test]
fn secrets_of_a_librarys_stages_are_hidden_too() {
    let text =
        FILE.replace("[jolt]", "[jolt, vault]").replace("type: table", "type: vault").replace("url: x", "url: hush");
    assert!(!good_plan(&text, &with_libraries()).definition.contains("hush"));
    let said = plan_with(&text.replace("table: data", "tabel: data"), &with_libraries()).err().unwrap().render(false);
    assert!(said.contains("unknown option `tabel`") && !said.contains("hush"), "{said}");
}

//! Builds the engine's guard against C++ exceptions.

fn main() {
    #[cfg(feature = "host")]
    guard();
}

#[cfg(feature = "host")]
fn guard() {
    println!("cargo::rerun-if-changed=src/host/guard.cpp");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").file("src/host/guard.cpp");
    // The part of the C++ library that catches, linked in: the binary must not need a C++ library to start.
    let is_gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let folder = is_gnu.then(|| folder_of_libsupcxx(&build)).flatten();
    if let Some(folder) = folder {
        build.cpp_link_stdlib(None).compile("pipeline_guard");
        println!("cargo::rustc-link-search=native={folder}");
        println!("cargo::rustc-link-lib=static:-bundle=supc++");
    } else {
        build.compile("pipeline_guard");
    }
}

/// Where the compiler keeps `libsupc++.a`; none if it has none.
#[cfg(feature = "host")]
fn folder_of_libsupcxx(build: &cc::Build) -> Option<String> {
    let mut ask = build.get_compiler().to_command();
    let answer = ask.arg("-print-file-name=libsupc++.a").output().ok()?;
    let path = std::path::PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
    // Without one the compiler gives back the bare name.
    Some(path.parent().filter(|_| path.is_absolute())?.display().to_string())
}

//! The programs under test, as cargo builds them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A program of this workspace. Cargo builds the programs first, unless they are as new as the
/// source.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

/// The tool.
pub fn tool() -> PathBuf {
    program("layergate")
}

/// Builds the programs into the target folder of this test; gives the folder they are in.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap(); // target/debug/deps/black_box-...
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--bins", "--target-dir"])
        .arg(folder.parent().unwrap());
    // What cargo tells a test of its package. Build scripts of dependencies look at the same
    // variables, and would run again.
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        cargo.env_remove(name);
    }
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(super::source("")).status().unwrap().success(), "{cargo:?}");
    folder.to_owned()
}

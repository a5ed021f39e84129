//! Where programs and files of a run are. All by where this program is, because cargo may have been
//! told to build into any folder.

use std::fs;
use std::path::PathBuf;

use crate::Result;

/// A program that cargo built beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    match program.exists() {
        true => Ok(program),
        false => {
            Err(format!("{} is missing; `make bench` and `make load` build it", program.display())
                .into())
        }
    }
}

/// The folder `bench` of cargo's target directory, where runs keep what they make.
pub fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("this program is in no target directory")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

//! Where the programs and files of a run are. All paths start at this program's own, because cargo
//! may build into any folder.

use std::fs;
use std::path::PathBuf;

use crate::Result;

/// A program that cargo built beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    match program.exists() {
        true => Ok(program),
        false => {
            let program = program.display();
            Err(format!("{program} is missing; `make bench` and `make load` build it").into())
        }
    }
}

/// The folder `bench` of cargo's target directory. Runs keep their files there.
pub fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("this program is in no target directory")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

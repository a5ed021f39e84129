//! Mistakes that people make with the tool, and the one sentence that it prints for each.

use std::collections::HashMap;
use std::path::Path;
use std::process::Output;

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Stack, sample, stderr, tool};

/// How many commands run at once: most of the time they wait.
const AT_ONCE: usize = 8;

/// What to run, with the words separated by spaces, and what comes of it. In all texts, `{name}`
/// stands for a value of the [`Mistakes`].
pub struct Mistake {
    what: &'static str,
    /// Variables to set, or to remove if the value is empty.
    environment: &'static [(&'static str, &'static str)],
    arguments: &'static str,
    status: i32,
    /// All of standard error, or its first line if clap has printed it.
    says: &'static str,
}

/// A mistake in the arguments alone.
pub const fn mistake(
    what: &'static str,
    arguments: &'static str,
    status: i32,
    says: &'static str,
) -> Mistake {
    Mistake { what, environment: &[], arguments, status, says }
}

/// The same with another environment.
pub const fn with(
    environment: &'static [(&'static str, &'static str)],
    mistake: Mistake,
) -> Mistake {
    Mistake { environment, ..mistake }
}

/// A stack to make mistakes with. `values` has what stands for `{name}` in texts.
pub struct Mistakes {
    pub stack: Stack,
    pub home: TempDir,
    pub values: HashMap<&'static str, String>,
}

impl Mistakes {
    pub async fn start() -> Self {
        let (stack, home) = (Stack::start().await, tempfile::tempdir().unwrap());
        let values = HashMap::from([
            ("host", stack.local.url.strip_prefix("http://").unwrap().to_owned()),
            ("sample", sample().to_str().unwrap().to_owned()),
            ("home", home.path().to_str().unwrap().to_owned()),
        ]);
        Self { stack, home, values }
    }

    pub fn filled_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// The program with the environment of `local.env` and without anything of this machine's user.
    pub fn command(&self, program: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.stack.environment()).kill_on_drop(true);
        command.env("HOME", self.home.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(self.home.path());
        for (name, value) in environment {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, self.filled_in(value)),
            };
        }
        command
    }

    pub async fn run(&self, environment: &[(&str, &str)], arguments: &str) -> Output {
        let mut command = self.command(&tool(), environment);
        command.args(arguments.split(' ').map(|word| self.filled_in(word))).output().await.unwrap()
    }

    /// Makes all mistakes, and asserts what comes of each.
    pub async fn make(&self, mistakes: &[Mistake]) {
        let outputs = stream::iter(mistakes)
            .map(async |mistake| (mistake, self.run(mistake.environment, mistake.arguments).await));
        let outputs: Vec<_> = outputs.buffered(AT_ONCE).collect().await;
        let wrong = outputs.iter().filter_map(|(mistake, output)| {
            let said = stderr(output);
            let said = match said.starts_with("error: ") {
                true => said.lines().next().unwrap_or_default(),
                false => said.trim_end_matches('\n'),
            };
            let expected = self.filled_in(mistake.says);
            let is_right = output.status.code() == Some(mistake.status) && said == expected;
            let status = output.status;
            (!is_right).then(|| {
                format!("{}: {status}\n     said: {said}\n expected: {expected}", mistake.what)
            })
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

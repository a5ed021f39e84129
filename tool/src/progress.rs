//! The progress of publishing and cleaning, on standard error. On a terminal, there are bars.
//! Otherwise, publishing prints a line for each blob, and cleaning prints nothing.

use std::io::{self, IsTerminal, Write};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use layergate_core::clean;
use layergate_core::types::Digest;

const BAR: &str = "{prefix} {bar:30} {bytes:>10} of {total_bytes:<10} {msg}";

/// The progress of all blobs.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    is_terminal: bool,
}

/// The progress of one blob.
#[derive(Debug)]
pub struct BlobProgress {
    bar: ProgressBar,
    digest: Digest,
    is_terminal: bool,
}

impl Progress {
    /// Draws bars if standard error is a terminal.
    pub fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), is_terminal }
    }

    /// Prints a warning above the bars.
    pub fn warn(&self, warning: &str) {
        self.bars.suspend(|| say(&format!("layergate: {warning}")));
    }

    /// Starts the bar of a blob of `size` bytes.
    pub fn blob(&self, digest: &Digest, size: u64) -> BlobProgress {
        let style =
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let short: String = digest.to_string().chars().take(19).collect();
        let bar = self.bars.add(ProgressBar::new(size).with_style(style).with_prefix(short));
        BlobProgress { bar, digest: digest.clone(), is_terminal: self.is_terminal }
    }
}

impl BlobProgress {
    /// Adds to the number of uploaded bytes.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Sets the bar back to the first byte.
    pub fn restart(&self) {
        self.bar.reset();
    }

    /// Ends the bar. `how` says what happened, such as `uploaded`.
    pub fn finish(self, how: &'static str) {
        self.bar.finish_with_message(how);
        if !self.is_terminal {
            say(&format!(
                "{} {} {how}",
                self.digest,
                HumanBytes(self.bar.length().unwrap_or_default())
            ));
        }
    }
}

/// The progress of a clean.
#[derive(Debug)]
pub struct CleanProgress(ProgressBar);

impl CleanProgress {
    /// Draws a bar if standard error is a terminal.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("{prefix:<9} {bar:30} {percent:>3}% {msg}");
        let bar = ProgressBar::new(1000)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    /// Draws the progress.
    pub fn report(&self, progress: clean::Progress) {
        self.0.set_prefix(progress.stage.to_string());
        self.0.set_position((progress.share * 1000.0) as u64);
        let freed = progress.freed;
        self.0.set_message(format!("{} objects, {}", freed.objects, HumanBytes(freed.bytes)));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// Prints a line. If that fails, publishing continues.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

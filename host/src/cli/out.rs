//! The only printer: results to stdout, talk to stderr.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing is done")]

use serde_json::Value;

/// Where a verb writes.
#[derive(Debug)]
pub(super) struct Out(());

impl Out {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// A line of the result.
    #[expect(clippy::unused_self, reason = "who may print is who was handed this")]
    pub(super) fn print(&mut self, line: &str) {
        println!("{line}");
    }

    /// A result for programs.
    pub(super) fn json(&mut self, value: &Value) {
        self.print(&format!("{value:#}"));
    }

    /// A line about the work.
    #[expect(clippy::unused_self, reason = "who may print is who was handed this")]
    pub(super) fn say(&mut self, line: &str) {
        eprintln!("{line}");
    }
}

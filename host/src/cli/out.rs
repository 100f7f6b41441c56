//! The only printer: results to stdout, talk to stderr.

use std::io::{self, Write};

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
        write(&mut io::stdout().lock(), line);
    }

    /// A result for programs.
    pub(super) fn json(&mut self, value: &Value) {
        self.print(&format!("{value:#}"));
    }

    /// A line about the work.
    #[expect(clippy::unused_self, reason = "who may print is who was handed this")]
    pub(super) fn say(&mut self, line: &str) {
        write(&mut io::stderr().lock(), line);
    }

    /// The last line of a terminal, in place of what it was.
    #[expect(clippy::unused_self, reason = "who may print is who was handed this")]
    pub(super) fn status(&mut self, line: &str) {
        let mut stream = io::stderr().lock();
        let _reader_has_gone = write!(stream, "\r\x1b[2K{line}").and_then(|()| stream.flush()).is_err();
    }
}

/// A reader that has gone, such as `head`, has what it wanted: the work goes on, and its exit code still counts.
fn write(stream: &mut impl Write, line: &str) {
    let _reader_has_gone = writeln!(stream, "{line}").is_err();
}

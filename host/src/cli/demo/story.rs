//! How the demo is told.

use super::super::Out;

/// Numbered acts, each with its lines.
pub(super) struct Story<'o> {
    out: &'o mut Out,
    act: u32,
}

impl<'o> Story<'o> {
    pub(super) fn new(out: &'o mut Out) -> Self {
        Self { out, act: 0 }
    }

    /// Begins the next act.
    pub(super) fn act(&mut self, title: &str) {
        self.act += 1;
        self.out.print(&format!("\n{}. {title}", self.act));
    }

    /// A line of the act.
    pub(super) fn line(&mut self, line: &str) {
        self.out.print(&format!("   {line}"));
    }

    /// Several lines of the act.
    pub(super) fn block(&mut self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(line);
        }
    }
}

//! What the guest logs.

/// A log line's severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The finest.
    Trace = 0,
    /// For developers.
    Debug = 1,
    /// Normal events.
    Info = 2,
    /// Someone should look.
    Warn = 3,
    /// Something failed.
    Error = 4,
    /// The proxy is at risk.
    Critical = 5,
    /// As a threshold: nothing is logged. No line has it.
    Off = 6,
}

impl Level {
    pub(crate) fn of_line(level: u32) -> Option<Self> {
        Some(match level {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// A line that the guest logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How severe the guest says it is.
    pub level: Level,
    /// The text; bytes that are not UTF-8 are replaced.
    pub message: String,
}

//! The versions of the ABI, and what each lets a guest import.

use std::fmt;

use serde::Serialize;

/// A version of the ABI. Envoy finds it by the name of an export, which it never calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Abi {
    /// 0.1.0: header callbacks are not told of the end of the stream, and a missing header reads as empty.
    #[serde(rename = "0.1.0")]
    V0_1_0,
    /// 0.2.0.
    #[serde(rename = "0.2.0")]
    V0_2_0,
    /// 0.2.1: the guest can ask for the log level.
    #[serde(rename = "0.2.1")]
    V0_2_1,
}

impl Abi {
    /// The version that the export `name` marks.
    pub(crate) fn of_marker(name: &str) -> Option<Self> {
        [Self::V0_1_0, Self::V0_2_0, Self::V0_2_1].into_iter().find(|abi| abi.marker() == name)
    }

    fn marker(self) -> &'static str {
        match self {
            Self::V0_1_0 => "proxy_abi_version_0_1_0",
            Self::V0_2_0 => "proxy_abi_version_0_2_0",
            Self::V0_2_1 => "proxy_abi_version_0_2_1",
        }
    }

    /// Whether a guest of this version can import `hostcall`, which some version has.
    pub(crate) fn has(self, hostcall: &str) -> bool {
        match hostcall {
            "proxy_get_configuration"
            | "proxy_continue_request"
            | "proxy_continue_response"
            | "proxy_clear_route_cache" => self == Self::V0_1_0,
            "proxy_continue_stream" | "proxy_close_stream" => self >= Self::V0_2_0,
            "proxy_get_log_level" => self >= Self::V0_2_1,
            _ => true,
        }
    }
}

/// What a guest may call while it is not in a callback of its own. Anything else traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restriction {
    /// It is in a callback: everything.
    None,
    /// It initializes itself.
    Starting,
    /// Its allocator runs, for the host.
    Allocating,
}

/// What a runtime needs before any code of the plugin: to print, its arguments and environment, time and random bytes.
const WHILE_STARTING: [&str; 15] = [
    "proxy_log",
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_write",
    "path_filestat_get",
    "path_open",
    "poll_oneoff",
    "random_get",
];

/// What a collector of garbage needs.
const WHILE_ALLOCATING: [&str; 4] = ["proxy_log", "clock_time_get", "fd_write", "poll_oneoff"];

impl Restriction {
    pub(crate) fn permits(self, hostcall: &str) -> bool {
        match self {
            Self::None => true,
            Self::Starting => WHILE_STARTING.contains(&hostcall),
            Self::Allocating => WHILE_ALLOCATING.contains(&hostcall),
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}

//! The numbers of the ABI, proxy-wasm 0.2.1, that the filter speaks.

/// A call that did as it was told.
pub const OK: u32 = 0;

/// The stream goes on.
pub const CONTINUE: u32 = 0;
/// The stream waits.
pub const PAUSE: u32 = 1;

/// The buffer with a plugin's configuration.
pub const PLUGIN_CONFIGURATION: u32 = 7;

/// The request's headers.
pub const REQUEST_HEADERS: u32 = 0;
/// The response's headers.
pub const RESPONSE_HEADERS: u32 = 2;

/// The stream towards the client.
pub const DOWNSTREAM: u32 = 2;

/// A metric that only goes up.
pub const COUNTER: u32 = 0;
/// A metric that is set.
pub const GAUGE: u32 = 1;

/// Of note.
pub const INFO: u32 = 2;
/// Should not be, and was dealt with.
pub const WARN: u32 = 3;
/// Someone must look at it.
pub const ERROR: u32 = 4;

/// A reply to a client that speaks no gRPC.
pub const NO_GRPC_STATUS: i32 = -1;

#[cfg(test)]
mod tests {
    use proxy_wasm::types::{Action, BufferType, LogLevel, MapType, MetricType, Status, StreamType};

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_sdk() {
        assert_eq!(OK, Status::Ok as u32);
        assert_eq!([CONTINUE, PAUSE], [Action::Continue as u32, Action::Pause as u32]);
        assert_eq!(PLUGIN_CONFIGURATION, BufferType::PluginConfiguration as u32);
        assert_eq!(REQUEST_HEADERS, MapType::HttpRequestHeaders as u32);
        assert_eq!(RESPONSE_HEADERS, MapType::HttpResponseHeaders as u32);
        assert_eq!(DOWNSTREAM, StreamType::Downstream as u32);
        assert_eq!([COUNTER, GAUGE], [MetricType::Counter as u32, MetricType::Gauge as u32]);
        assert_eq!(
            [INFO, WARN, ERROR],
            [LogLevel::Info, LogLevel::Warn, LogLevel::Error].map(|level| level as u32)
        );
    }
}

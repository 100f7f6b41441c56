//! A module that does nothing: contexts that override no callback, by requests or, where it is configured with
//! `network`, by connections.

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

mod entry {
    use super::Root;

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root { is_network: false }));
    }}
}

struct Root {
    is_network: bool,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.is_network = self.get_plugin_configuration().is_some_and(|bytes| bytes == b"network");
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(if self.is_network { ContextType::StreamContext } else { ContextType::HttpContext })
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Nothing))
    }

    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Nothing))
    }
}

struct Nothing;

impl Context for Nothing {}
impl HttpContext for Nothing {}
impl StreamContext for Nothing {}

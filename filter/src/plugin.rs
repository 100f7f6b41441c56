//! The contexts that the SDK drives: Envoy's callbacks, handed on to [`place`](crate::place).

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use crate::envoy::{self, Envoy};
use crate::host::{Host as _, Level};
use crate::place::{self, Next};
use crate::settings::Settings;

mod entry {
    use super::{LogLevel, Root};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Warn); // also makes a panic say where, should there ever be one
        proxy_wasm::set_root_context(|_| Box::new(Root { settings: None }));
    }}
}

/// A plugin under one configuration.
struct Root {
    settings: Option<Rc<Settings>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Settings::read(&envoy::configuration(), &Envoy) {
            Ok(settings) => {
                self.settings = Some(Rc::new(settings));
                true
            }
            Err(refusal) => {
                Envoy.log(Level::Error, &format!("configuration refused, the one before stays: {refusal}"));
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        let is_gateway = self.settings.as_ref()?.place.is_gateway();
        Some(if is_gateway { ContextType::StreamContext } else { ContextType::HttpContext })
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request(Rc::clone(self.settings.as_ref()?))))
    }

    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection(Rc::clone(self.settings.as_ref()?))))
    }
}

fn action(next: Next) -> Action {
    match next {
        Next::Continue => Action::Continue,
        Next::Stop => Action::Pause,
    }
}

struct Request(Rc<Settings>);

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        action(place::request(&self.0, &Envoy))
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        place::answer(&self.0, &Envoy);
        Action::Continue
    }
}

struct Connection(Rc<Settings>);

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        action(place::connection(&self.0, &Envoy))
    }
}

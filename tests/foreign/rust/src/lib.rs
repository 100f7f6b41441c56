//! The errand in Rust, with the SDK: see ../../README.md.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};

mod entry {
    use super::Root;

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Root { calls: 0 }));
    }}
}

fn say(text: &str) {
    hostcalls::log(LogLevel::Info, text).expect("a log");
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap_or_default()).expect("text")
}

struct Root {
    calls: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _size: usize) -> bool {
        let name = format!("{}.calls", text(self.get_property(vec!["plugin_name"])));
        self.calls = hostcalls::define_metric(MetricType::Counter, &name).expect("a metric");
        true
    }

    fn on_configure(&mut self, _size: usize) -> bool {
        say(&format!("configured: {}", text(self.get_plugin_configuration())));
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { calls: self.calls }))
    }
}

struct Stream {
    calls: u32,
}

impl Stream {
    fn count(&self) {
        hostcalls::increment_metric(self.calls, 1).expect("a counter");
        say(&format!("counted: {}", hostcalls::get_metric(self.calls).expect("a counter")));
    }

    fn share(&self, path: &str) {
        let (last, cas) = self.get_shared_data("last");
        say(&format!("shared: {}", text(last)));
        self.set_shared_data("last", Some(path.as_bytes()), cas).expect("shared data");
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, _headers: usize, size: usize, _trailers: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        let answer = format!("{status} {}", text(self.get_http_call_response_body(0, size)));
        say(&format!("answered: {answer}"));
        self.add_http_request_header("x-answer", &answer);
        self.resume_http_request();
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let path = self.get_http_request_header(":path").unwrap_or_default();
        let from = text(self.get_property(vec!["source", "address"]));
        say(&format!("request: {path} from {from}"));
        self.add_http_request_header("x-filter", "errand");
        self.count();
        self.share(&path);
        match path.as_str() {
            "/no" => {
                self.send_http_response(403, vec![("x-why", "errand")], Some(b"not today\n"));
                Action::Pause
            }
            "/ask" => {
                let cluster = text(self.get_property(vec!["plugin_name"]));
                let headers = vec![(":authority", "auth"), (":method", "GET"), (":path", "/check")];
                self.dispatch_http_call(&cluster, headers, None, vec![], Duration::from_secs(5)).expect("a call");
                Action::Pause
            }
            "/trap" => panic!("as told"),
            _ => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let body = text(self.get_http_request_body(0, size));
        say(&format!("body: {body}"));
        self.set_http_request_body(0, size, format!("{body}, carried").as_bytes());
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        say(&format!("response: {}", self.get_http_response_header(":status").unwrap_or_default()));
        self.add_http_response_header("x-filter", "errand");
        Action::Continue
    }

    fn on_log(&mut self) {
        say("end");
    }
}

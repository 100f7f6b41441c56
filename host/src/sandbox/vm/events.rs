//! Callouts, queues and time, as a test plays them.

use std::time::Duration;

use super::Vm;
use crate::sandbox::callout::{GrpcAnswer, GrpcCall, HttpAnswer, HttpCall};
use crate::sandbox::context::Root;
use crate::sandbox::error::Trapped;
use crate::sandbox::state::State;

impl Vm {
    /// The HTTP requests that wait for an answer, in the order they were made.
    #[must_use]
    pub fn http_calls(&self) -> Vec<HttpCall> {
        let guest = self.guest.instance.borrow();
        let roots = roots(guest.state());
        roots.flat_map(|root| root.callouts.http.values()).map(|waiting| waiting.call.clone()).collect()
    }

    /// Answers an HTTP request: `proxy_on_http_call_response`. Nothing happens if it does not wait any more.
    ///
    /// ```
    /// use isthmus::sandbox::{Connection, Headers, HttpAnswer, HttpOutcome, Module, Node, Plugin};
    ///
    /// // A filter that holds each request back until the cluster "auth" has answered, whatever it says.
    /// let wasm = wat::parse_str(r#"(module
    ///   (import "env" "proxy_http_call"
    ///     (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    ///   (import "env" "proxy_set_effective_context" (func $act_for (param i32) (result i32)))
    ///   (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    ///   (memory (export "memory") 1)
    ///   (data (i32.const 8) "auth")
    ///   (data (i32.const 16) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00")
    ///   (data (i32.const 44) ":method\00GET\00:path\00/\00:authority\00a\00")
    ///   (func (export "proxy_abi_version_0_2_1"))
    ///   (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    ///   (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    ///     (drop (call $call (i32.const 8) (i32.const 4) (i32.const 16) (i32.const 61)
    ///       (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 0)))
    ///     (i32.const 1))
    ///   (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
    ///     (drop (call $act_for (i32.const 2)))
    ///     (drop (call $continue (i32.const 0)))))"#)?;
    ///
    /// let vm = Module::compile(&wasm)?.start(&Node::default(), Plugin::default())?;
    /// let connection = Connection::new("10.0.0.1:40000".parse()?, "10.0.0.2:8080".parse()?);
    /// let stream = vm.http(&connection, Headers::from([(":path", "/")]))?;
    /// assert_eq!(stream.request(), HttpOutcome::Pause);
    ///
    /// let call = vm.http_calls().pop().ok_or("no call")?;
    /// assert_eq!((call.cluster.as_str(), call.timeout.as_millis()), ("auth", 500));
    /// vm.answer_http(call.token, HttpAnswer::Reset)?;
    /// assert!(stream.request().continued().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn answer_http(&self, token: u32, answer: impl Into<HttpAnswer>) -> Result<(), Trapped> {
        let mut guest = self.guest.instance.borrow_mut();
        guest.usable()?;
        guest.answer_http(token, answer.into())
    }

    /// The gRPC calls that wait for an answer, and the streams that are open.
    #[must_use]
    pub fn grpc_calls(&self) -> Vec<GrpcCall> {
        let guest = self.guest.instance.borrow();
        let roots = roots(guest.state());
        roots.flat_map(|root| root.callouts.grpc.values()).map(|waiting| waiting.call.clone()).collect()
    }

    /// Does what a gRPC service does. Nothing happens to a call or a stream that is over.
    pub fn answer_grpc(&self, token: u32, answer: GrpcAnswer) -> Result<(), Trapped> {
        let mut guest = self.guest.instance.borrow_mut();
        guest.usable()?;
        let answer = match answer {
            GrpcAnswer::Close { status, message } if message.is_empty() => {
                GrpcAnswer::Close { status, message: "via_upstream".to_owned() }
            }
            GrpcAnswer::Close { status, message } => {
                GrpcAnswer::Close { status, message: format!("{message}{{via_upstream}}") }
            }
            other @ (GrpcAnswer::InitialMetadata(_)
            | GrpcAnswer::Message(_)
            | GrpcAnswer::TrailingMetadata(_)) => other,
        };
        guest.answer_grpc(token, answer)
    }

    /// Tells the guest of what has arrived in its queues: `proxy_on_queue_ready`, once for each item. The answer is
    /// whether there was anything to tell.
    pub fn turn(&self) -> Result<bool, Trapped> {
        let mut guest = self.guest.instance.borrow_mut();
        guest.usable()?;
        let elsewhere =
            self.living_main().map_or(Ok(false), |main| main.instance.borrow_mut().tell_queues())?;
        Ok(guest.tell_queues()? || elsewhere)
    }

    /// The clock, as time since the Unix epoch.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.guest.instance.borrow().state().now
    }

    /// Sets the clock, without anything that was due in between. It stands still until it is moved again.
    pub fn set_time(&self, now: Duration) {
        self.guest.instance.borrow_mut().state_mut().now = now;
        if let Some(main) = self.living_main() {
            main.instance.borrow_mut().state_mut().now = now;
        }
    }

    /// Lets time pass: timers fire and callouts time out, each at its time, and queues are told of. The main thread's VM
    /// has the same clock: what is due there comes first.
    pub fn advance(&self, by: Duration) -> Result<(), Trapped> {
        let mut guest = self.guest.instance.borrow_mut();
        guest.usable()?;
        let until = guest.state().now + by;
        loop {
            let due = self.next_in_main().into_iter().chain(guest.next_event()).min();
            let then = due.map_or(until, |due| due.clamp(guest.state().now, until));
            self.pass_time_in_main(then)?;
            guest.pass_time(then)?;
            if then == until {
                return Ok(());
            }
        }
    }

    fn next_in_main(&self) -> Option<Duration> {
        self.living_main()?.instance.borrow().next_event()
    }

    /// Another worker may have let it pass before.
    fn pass_time_in_main(&self, until: Duration) -> Result<(), Trapped> {
        let Some(main) = self.living_main() else { return Ok(()) };
        let mut guest = main.instance.borrow_mut();
        let until = until.max(guest.state().now);
        guest.pass_time(until)
    }
}

fn roots(state: &State) -> impl Iterator<Item = &Root> {
    state.contexts.keys().filter_map(|id| state.root(*id))
}

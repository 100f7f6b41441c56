//! What a module made of a request, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::connected::{Connected, body};
use crate::sandbox::{
    Callback, Ended, Headers, HttpOutcome, LocalReply, LogLine, Metric, Passed, Trapped, Vm,
};

/// Everything that there is to see of a request, or of a connection.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it is called, where there are several.
    title: Option<String>,
    connection: Option<Connected>,
    request: Option<(&'static str, Passed)>,
    response: Option<(&'static str, Passed)>,
    reply: Option<LocalReply>,
    filter_state: Vec<(String, String)>,
    trapped: Option<String>,
    logs: Vec<LogLine>,
    metrics: Vec<(String, Metric)>,
    callbacks: Vec<Callback>,
}

impl Told {
    pub(super) fn request(&mut self, outcome: &HttpOutcome, passed: Passed) {
        self.request = Some((word(outcome), passed));
        self.reply = outcome.reply().cloned();
    }

    pub(super) fn response(&mut self, outcome: &HttpOutcome, passed: Passed) {
        self.response = Some((word(outcome), passed));
        self.reply = outcome.reply().cloned();
    }

    pub(super) fn titled(title: &str) -> Self {
        Self { title: Some(title.to_owned()), ..Self::default() }
    }

    pub(super) fn connection(&mut self, connected: Connected) {
        self.connection = Some(connected);
    }

    pub(super) fn trap(&mut self, trapped: &Trapped) {
        self.trapped = Some(format!("{trapped}: {}", trapped.cause));
    }

    pub(super) fn has_trapped(&self) -> bool {
        self.trapped.is_some()
    }

    pub(super) fn ended(&mut self, ended: &Ended) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.filter_state =
            ended.filter_state.iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
    }

    pub(super) fn vm(&mut self, vm: &Vm) {
        self.logs.extend(vm.take_logs());
        self.callbacks.extend(vm.take_callbacks());
    }

    /// Metrics are the module's, and shown once, with the last.
    pub(super) fn metrics(&mut self, vm: &Vm) {
        self.metrics = vm.metrics().into_iter().collect();
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        if let Some(title) = &self.title {
            let _infallible = writeln!(out, "=== {title}");
        }
        if let Some(connection) = &self.connection {
            connection.text(&mut out);
        }
        for (name, side) in [("request", &self.request), ("response", &self.response)] {
            if let Some((word, passed)) = side {
                let _infallible = writeln!(out, "{name}: {word}");
                headers(passed.headers.as_ref(), &mut out);
                body(&passed.body, &mut out);
                headers(passed.trailers.as_ref(), &mut out);
            }
        }
        if let Some(reply) = &self.reply {
            let _infallible = writeln!(out, "reply: {} {}", reply.status, reply.details);
            headers(Some(&reply.headers), &mut out);
            body(&reply.body, &mut out);
        }
        if let Some(trapped) = &self.trapped {
            let _infallible = writeln!(out, "trapped: {trapped}");
        }
        for (key, value) in &self.filter_state {
            let _infallible = writeln!(out, "filter state: {key}: {value}");
        }
        for line in &self.logs {
            let _infallible = writeln!(out, "log: {:?}: {}", line.level, line.message);
        }
        for (name, metric) in &self.metrics {
            let _infallible = writeln!(out, "metric: {name}: {}", value(metric));
        }
        for callback in &self.callbacks {
            let _infallible = writeln!(out, "callback: {} ({} instructions)", callback.name, callback.fuel);
            for call in &callback.hostcalls {
                let status = call.status.map_or_else(|| "trapped".to_owned(), |status| status.to_string());
                let read: Vec<_> = call.read.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
                let given = call.given.iter().sum::<usize>();
                let _infallible = writeln!(out, "  {} {read:?}: {status}, {given} bytes", call.name);
            }
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        let side = |side: &Option<(&'static str, Passed)>| {
            side.as_ref().map(|(word, passed)| {
                json!({
                    "outcome": word, "headers": passed.headers.as_ref().map(pairs),
                    "body": String::from_utf8_lossy(&passed.body), "trailers": passed.trailers.as_ref().map(pairs),
                })
            })
        };
        let reply = self.reply.as_ref().map(|reply| {
            json!({
                "status": reply.status, "headers": pairs(&reply.headers), "body": String::from_utf8_lossy(&reply.body),
                "details": reply.details, "grpcStatus": reply.grpc_status,
            })
        });
        let state: Map<String, Value> =
            self.filter_state.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let metrics: Map<String, Value> =
            self.metrics.iter().map(|(name, metric)| (name.clone(), value(metric))).collect();
        let logs: Vec<Value> = self
            .logs
            .iter()
            .map(|line| json!({"level": format!("{:?}", line.level), "message": line.message}))
            .collect();
        let callbacks: Vec<Value> = self.callbacks.iter().map(callback).collect();
        json!({
            "apiVersion": policy::API_VERSION, "kind": "SandboxRun",
            "title": self.title, "connection": self.connection.as_ref().map(Connected::json),
            "request": side(&self.request), "response": side(&self.response), "reply": reply,
            "trapped": self.trapped, "filterState": state, "logs": logs, "metrics": metrics, "callbacks": callbacks,
        })
    }
}

/// Several requests, in turn.
pub(super) fn several(all: &[Told]) -> Value {
    let runs: Vec<Value> = all.iter().map(Told::json).collect();
    json!({"apiVersion": policy::API_VERSION, "kind": "SandboxRuns", "runs": runs})
}

fn word(outcome: &HttpOutcome) -> &'static str {
    match outcome {
        HttpOutcome::Continue(_) => "goes on",
        HttpOutcome::Reply(_) => "answered by the module",
        HttpOutcome::Pause => "held back",
        HttpOutcome::Reset => "reset",
    }
}

fn headers(headers: Option<&Headers>, out: &mut String) {
    for (name, value) in headers.iter().flat_map(|headers| headers.iter()) {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        let _infallible = writeln!(out, "  {name}: {value}");
    }
}

fn pairs(headers: &Headers) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| json!([text(name), text(value)])).collect()
}

fn value(metric: &Metric) -> Value {
    match metric {
        Metric::Counter(value) | Metric::Gauge(value) => json!(value),
        Metric::Histogram(values) => json!(values),
    }
}

fn callback(callback: &Callback) -> Value {
    let calls: Vec<Value> = callback
        .hostcalls
        .iter()
        .map(|call| {
            let read: Vec<_> = call.read.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
            json!({"name": call.name, "status": call.status, "read": read, "given": call.given})
        })
        .collect();
    json!({
        "name": callback.name, "context": callback.context, "fuel": callback.fuel,
        "memoryBytes": callback.memory_bytes, "hostcalls": calls,
    })
}

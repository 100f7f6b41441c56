//! The answer of a server that did not do as it was asked, read.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use super::call::Call;
use super::{Held, Problem, Wrong};
use crate::text::plain;

/// What an answer means. Most carry a `Status` object; a server that has too much to do answers with plain text. What it
/// says goes to a terminal: objects and whoever stands between can put anything into it.
pub(super) fn problem(call: &Call, code: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Problem {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| status.get(field).and_then(Value::as_str).map(str::to_owned);
    let said = || String::from_utf8_lossy(body).trim().chars().take(500).collect();
    let message = plain(&text("message").unwrap_or_else(said));
    let reason = text("reason").unwrap_or_default();
    match code {
        StatusCode::UNAUTHORIZED => Problem::Unauthorized { message },
        StatusCode::FORBIDDEN => forbidden(call, message),
        StatusCode::NOT_FOUND => Problem::NotFound { message },
        StatusCode::CONFLICT => match held(&status) {
            held if held.is_empty() => Problem::Changed { message },
            held => Problem::Conflict { held },
        },
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            Problem::Invalid { wrong: wrong(&status, message) }
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge { bytes: call.size(), message },
        StatusCode::TOO_MANY_REQUESTS => Problem::Throttled { retry_after },
        _ if message.starts_with(UNTYPED) => Problem::Invalid { wrong: vec![undeclared(&message)] },
        _ if is_of_the_store(&message) => Problem::TooLarge { bytes: call.size(), message },
        _ if reason == "ServerTimeout" || retry_after.is_some() => Problem::Throttled { retry_after },
        _ => Problem::Server { code: code.as_u16(), message },
    }
}

/// The causes that the server names, each with its field.
fn causes(status: &Value) -> impl Iterator<Item = (&str, Wrong)> {
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    causes.into_iter().flatten().map(|cause| {
        let text = |field: &str| cause.get(field).and_then(Value::as_str).unwrap_or_default();
        (text("reason"), Wrong { field: plain(text("field")), message: plain(text("message")) })
    })
}

fn wrong(status: &Value, message: String) -> Vec<Wrong> {
    // Beside what is wrong the server notes, of no field, that it has not looked for more.
    let mut wrong: Vec<Wrong> =
        causes(status).map(|(_, wrong)| wrong).filter(|wrong| wrong.field != "<nil>").collect();
    wrong.sort();
    if wrong.is_empty() { vec![Wrong { field: String::new(), message }] } else { wrong }
}

/// How a server starts to tell, as a failure of its own, that an apply has fields that the kind does not.
const UNTYPED: &str = "failed to create typed patch object";

/// The first of them: `... (namespace/name; group/version, Kind=K): .spec.field: what is wrong`.
fn undeclared(message: &str) -> Wrong {
    let told = message.split_once("): ").map_or(message, |(_, told)| told);
    let (field, message) = match told.split_once(": ") {
        Some((field, message)) if field.starts_with('.') => (field.trim_start_matches('.'), message),
        _ => ("", told),
    };
    Wrong { field: field.to_owned(), message: message.to_owned() }
}

/// The fields of a conflict: `conflict with "kubectl" using v1`.
fn held(status: &Value) -> Vec<Held> {
    let held = |(reason, wrong): (&str, Wrong)| {
        let manager = quoted(&wrong.message)?.to_owned();
        (reason == "FieldManagerConflict").then_some(Held { field: wrong.field, manager })
    };
    causes(status).filter_map(held).collect()
}

/// What etcd itself does not take comes as a failure of the server, in the words of etcd or of its transport.
fn is_of_the_store(message: &str) -> bool {
    message.contains("etcdserver: request is too large") || message.contains("larger than max")
}

/// The server says who may not do what where, but only in words: `User "u" cannot patch resource "things" in API
/// group "g" in the namespace "n"`.
fn forbidden(call: &Call, message: String) -> Problem {
    let after = |words: &str| message.split_once(words).map(|(_, rest)| rest);
    let quoted_after = |words: &str| after(words).and_then(quoted).map(str::to_owned);
    let verb = after("cannot ").and_then(|rest| rest.split_whitespace().next());
    let resource = quoted_after(" resource ").unwrap_or_else(|| "this".to_owned());
    let group = quoted_after(" in API group ").filter(|group| !group.is_empty());
    Problem::Forbidden {
        user: quoted_after("User "),
        verb: verb.unwrap_or(call.verb()).to_owned(),
        resource: group.map_or_else(|| resource.clone(), |group| format!("{resource}.{group}")),
        namespace: quoted_after(" in the namespace "),
        message,
    }
}

/// The text between the first two quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_moves_no_cursor() {
        let call = Call::get("/version".to_owned());
        let body = br#"{"message": "gone\u001b[2J", "details": {"causes": [{"reason": "FieldManagerConflict",
            "field": ".spec\u001b[1A", "message": "conflict with \"me\u0007\""}]}}"#;
        for code in [403, 404, 409, 422, 429, 500, 503] {
            let code = StatusCode::from_u16(code).unwrap();
            let told = problem(&call, code, None, body).to_string();
            assert!(!told.chars().any(char::is_control), "{code}: {told:?}");
            let told = problem(&call, code, None, b"\x1b[2Jbusy").to_string();
            assert!(!told.chars().any(char::is_control), "{code}: {told:?}");
        }
    }
}

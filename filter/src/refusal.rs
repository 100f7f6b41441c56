//! How a request is refused, so that its client can tell why.

use crate::host::{Headers, Host, Reply};

/// The header of a refusal that says why.
pub const REASON: &str = "x-isthmus-reason";

const FORBIDDEN: u32 = 403;
/// `PERMISSION_DENIED`.
const PERMISSION_DENIED: u8 = 7;

/// Who is refused.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The cluster that the request comes from, if it is known.
    pub cluster: Option<&'a str>,
    /// How well it is known.
    pub level: &'a str,
}

impl<'a> Origin<'a> {
    /// The proxy's own application, in cluster `home`.
    pub fn own(home: &'a str) -> Self {
        Self { cluster: Some(home), level: "own" }
    }
}

const ERROR: &str = "forbidden by a cross-cluster policy";

/// Refuses the request that `host` shows, for a proxy of cluster `home`: with 403 and a body that programs can read,
/// or with `PERMISSION_DENIED` and a message where the client speaks gRPC.
pub fn refuse(host: &impl Host, home: &str, origin: Origin<'_>, reason: &str) {
    let details = ["isthmus:", reason].concat();
    let why = (REASON, reason);
    if is_grpc(host.header(Headers::Request, "content-type")) {
        let body = [ERROR, ": ", reason].concat();
        let grpc = Some(PERMISSION_DENIED);
        return host.reply(&Reply {
            status: FORBIDDEN,
            grpc,
            details: &details,
            headers: &[why],
            body: &body,
        });
    }
    let body = body(home, origin, reason);
    let headers = &[("content-type", "application/json"), why];
    host.reply(&Reply { status: FORBIDDEN, grpc: None, details: &details, headers, body: &body });
}

/// Answers a request that cannot be judged yet: it may be tried again.
pub fn unready(host: &impl Host, details: &str) {
    const UNAVAILABLE: u32 = 503;
    host.reply(&Reply { status: UNAVAILABLE, grpc: None, details, headers: &[], body: "" });
}

/// The body of a refusal, in JSON: the only JSON that the filter writes, so it brings no writer for any other.
fn body(home: &str, origin: Origin<'_>, reason: &str) -> String {
    let mut out = String::with_capacity(256);
    append(&mut out, "{\"error\":", ERROR);
    append(&mut out, ",\"reason\":", reason);
    out.push_str(",\"source\":{");
    if let Some(cluster) = origin.cluster {
        append(&mut out, "\"cluster\":", cluster);
        out.push(',');
    }
    append(&mut out, "\"level\":", origin.level);
    append(&mut out, "},\"refused_by\":", home);
    out.push_str("}\n");
    out
}

/// Appends a key and a text for it (RFC 8259, 7).
fn append(out: &mut String, key: &str, text: &str) {
    out.push_str(key);
    out.push('"');
    let mut rest = text;
    // What stands as it is goes in one piece, as nearly every text does.
    while let Some((plain, escaped, after)) = split(rest) {
        out.push_str(plain);
        match escaped {
            b'"' | b'\\' => out.extend(['\\', char::from(escaped)]),
            code => {
                let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
                out.extend(['\\', 'u', '0', '0', digit(code >> 4), digit(code & 15)]);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out.push('"');
}

/// What is before the first character that JSON escapes, that one, and what is after it.
fn split(text: &str) -> Option<(&str, u8, &str)> {
    let at = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    let (plain, rest) = text.split_at_checked(at)?;
    let (escaped, after) = rest.split_at_checked(1)?;
    Some((plain, *escaped.as_bytes().first()?, after))
}

/// Whether a content type is one of gRPC's, as Envoy tells it: `application/grpc` alone or with `+` or `;` behind.
fn is_grpc(content_type: Option<&[u8]>) -> bool {
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_whatever_stands_in_it() {
        let odd: String = ('\0'..='\u{80}').chain(['ü', '\u{2028}', '🦀']).collect();
        for (cluster, source) in [
            (Some("eu-1"), serde_json::json!({"cluster": "eu-1", "level": odd})),
            (None, serde_json::json!({"level": odd})),
        ] {
            let body = body("home", Origin { cluster, level: &odd }, &odd);
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            let said =
                serde_json::json!({"error": ERROR, "reason": odd, "source": source, "refused_by": "home"});
            assert_eq!(read, said);
        }
    }

    #[test]
    fn grpc_is_told_from_its_namesakes() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(Some(content_type.as_bytes())), grpc, "{content_type}");
        }
        assert!(!is_grpc(None));
    }
}

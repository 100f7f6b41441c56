//! How a request is refused, so that its client can tell why.

use serde::Serialize;

use crate::host::{Headers, Host, Reply};

/// The header of a refusal that says why.
pub const REASON: &str = "x-isthmus-reason";

const FORBIDDEN: u32 = 403;
/// `PERMISSION_DENIED`.
const PERMISSION_DENIED: u8 = 7;

/// Who is refused.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Origin<'a> {
    /// The cluster that the request comes from, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<&'a str>,
    /// How well it is known.
    pub level: &'a str,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    reason: &'a str,
    source: Origin<'a>,
    refused_by: &'a str,
}

const ERROR: &str = "forbidden by a cross-cluster policy";

/// Refuses the request that `host` shows, for a proxy of cluster `home`: with 403 and a body that programs can read,
/// or with `PERMISSION_DENIED` and a message where the client speaks gRPC.
pub fn refuse(host: &impl Host, home: &str, origin: Origin<'_>, reason: &str) {
    let details = format!("isthmus:{reason}");
    let why = (REASON, reason.to_owned());
    if is_grpc(host.header(Headers::Request, "content-type")) {
        let body = format!("{ERROR}: {reason}");
        let grpc = Some(PERMISSION_DENIED);
        return host.reply(&Reply { status: FORBIDDEN, grpc, details, headers: vec![why], body });
    }
    let body = Body { error: ERROR, reason, source: origin, refused_by: home };
    let body = serde_json::to_string(&body).unwrap_or_default() + "\n";
    let headers = vec![("content-type", "application/json".to_owned()), why];
    host.reply(&Reply { status: FORBIDDEN, grpc: None, details, headers, body });
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

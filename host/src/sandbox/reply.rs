//! The response that Envoy makes of a local reply.

use crate::sandbox::headers::Headers;
use crate::sandbox::outcome::LocalReply;

/// The response's headers: the filter's own, and those Envoy sets by the body.
pub(crate) fn response_headers(reply: &LocalReply, grpc: bool) -> Headers {
    if grpc { grpc_headers(reply) } else { http_headers(reply) }
}

fn http_headers(reply: &LocalReply) -> Headers {
    let mut headers = Headers::from([(":status", reply.status.to_string())]);
    add_all(&mut headers, &reply.headers);
    if reply.body.is_empty() {
        headers.remove("content-length");
        headers.remove("content-type");
        return headers;
    }
    headers.replace("content-length", reply.body.len().to_string());
    if headers.value("content-type").is_none() {
        headers.add("content-type", "text/plain");
    }
    headers
}

/// A gRPC client gets a response of trailers only: the status and the body move into headers.
fn grpc_headers(reply: &LocalReply) -> Headers {
    let mut headers = Headers::from([(":status", "200")]);
    add_all(&mut headers, &reply.headers);
    headers.replace("content-type", "application/grpc");
    let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
    headers.replace("grpc-status", status.to_string());
    if !reply.body.is_empty() {
        headers.replace("grpc-message", percent_encoded(&reply.body));
    }
    headers.remove("content-length");
    headers
}

fn add_all(headers: &mut Headers, more: &Headers) {
    for (name, value) in more.iter().filter(|(name, _)| *name != b":status") {
        headers.add(name, value);
    }
}

/// The gRPC status for an HTTP status, by gRPC's own table.
pub(crate) fn grpc_status(http: u32) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// gRPC lets printable ASCII through, but not the percent sign.
fn percent_encoded(body: &[u8]) -> String {
    body.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'%' => text.push_str("%25"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str, headers: Headers) -> LocalReply {
        LocalReply { status: 403, headers, body: body.into(), details: String::new(), grpc_status: None }
    }

    #[test]
    fn a_body_brings_its_length_and_a_type() {
        let headers = response_headers(&reply("no", Headers::from([("x-a", "1")])), false);
        let expected =
            [(":status", "403"), ("x-a", "1"), ("content-length", "2"), ("content-type", "text/plain")];
        assert_eq!(headers, Headers::from(expected));
    }

    #[test]
    fn no_body_takes_the_type_away() {
        let headers = response_headers(&reply("", Headers::from([("content-type", "text/html")])), false);
        assert_eq!(headers, Headers::from([(":status", "403")]));
    }

    #[test]
    fn a_grpc_client_is_told_in_grpc() {
        let headers = response_headers(&reply("50%\n", Headers::new()), true);
        let expected = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "7"),
            ("grpc-message", "50%25%0A"),
        ];
        assert_eq!(headers, Headers::from(expected));
    }
}

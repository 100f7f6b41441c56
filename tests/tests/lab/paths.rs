//! Tricky paths and hosts, sent raw through two real sidecars, and what `policy::path::normalise` makes of the paths.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use isthmus::lab::Lab;
use policy::path::normalise;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{eventually, sleep, up};

const HOST: &str = "ledger.sample:5000";

/// Paths on which Envoy and `normalise` agree, over either protocol.
#[rustfmt::skip]
const AGREED: &[&str] = &[
    "/", "/a", "/a/", "//", "//a", "/a//b", "/.", "/..", "/../a", "/a/.", "/a/./", "/a/..", "/a/../",
    "/a/b/../c", "/a/../../b", "/a//../b", "/a//../../b", "//x/../y", "/./a", "/.a", "/..a", "/a..",
    "/a/...", "/a/.../b", "/%2e%2e/a", "/a/%2E%2e/b", "/a/.%2e", "/a/%2e", "/a/.%2e%2e/b",
    "/a/%2e./%2e%2E/b", "/a%2fb", "/a%2F..%2fb", "/a/..%2fb", "/%2F%2f", "/a/%2F../b", "/%5c..%5C",
    "/%5C%2e%2e", "/a\\b", "/a\\..\\b", "/a\\%2e%2e/b", "/\\", "/.\\..\\a", "\\a",
    "/%41%7a%30%2D%5f%7e%7E~", "/%3a%3A%c3%A9", "/%20%01%7f%ff", "/%252e%252e/", "/%25%34%31", "/%", "/%z",
    "/%zz", "/%4", "/%%", "/%%%", "/%%25", "/%%34%31", "/%%341", "/%4%31", "/%%300", "/%%30%30", "/%2%35",
    "/%%%34%31", "/%%32%65%2e/a", "/%%32e%2e/a", "/%%2e%2e/..", "/%/..", "/%\\%34%31", "/%;%34%31",
    "/%\"41", "/%|%34%31", "/%4|", "/%5%63..", "/%2%66..", "/%%32%35%34%31", "/%%5%41", "/a%/../%34%31%356",
    "/a?b", "/?", "/a?../..", "/a?%41#x", "/a#b?c", "/a#/../b", "/#", "/a?%00", "/a/..?x/..;/b", "?x", "#x",
    "/*", "*", "a", "/a/*/../b", "/.well-known/x", "/package.Service/Method", "/a;x=1/b", "/a/;x/b",
    "/a;/..", "/a/;../b", "/a/...;/b", "/a;..;/b", "/a/..%3b/b", "/%2e%2e%3B/b", "/a\"b<c>`{|}^",
    "/!$&'()*+,-.:;=@[]_~", "/Admin", "/%00", "/a/%00/../b", "/a b", "/a\tb", "/a\u{1}b", "/a\u{7f}b",
    "/a?b c", "/a?b\tc",
];

/// Where Envoy and `normalise` differ, and why that is right.
struct Difference {
    why: &'static str,
    /// Whether a path is such a one.
    takes_in: fn(Protocol, &str) -> bool,
    /// Some of them, with what Envoy hands on.
    examples: &'static [(Protocol, &'static str, Option<&'static str>)],
}

use Protocol::{Http1, Http2};

const DIFFERENCES: [Difference; 3] = [
    Difference {
        why: "only a patched Envoy resolves a dot segment with parameters, and none does where the dots are escaped; \
              servers differ on it, so no rule may rely on it",
        takes_in: |_, path| {
            let path = path.split(['?', '#']).next().unwrap_or_default();
            let path = path.replace("%2e", ".").replace("%2E", ".").replace('\\', "/");
            path.contains("/.;") || path.contains("/..;")
        },
        examples: &[
            (Http1, "/a/..;/b", Some("/b")),
            (Http1, "/a/..;x=1/b", Some("/b")),
            (Http2, "/a/.;x", Some("/a/")),
            (Http1, "/..;b/../c", Some("/c")),
            (Http1, "/a/%2e%2e;/b", Some("/a/..;/b")),
            (Http2, "/a/.%2E;x/b", Some("/a/..;x/b")),
            (Http2, "/a\\..;\\b", Some("/a/..;/b")),
        ],
    },
    Difference {
        why: "what is not ASCII may come over HTTP/2, and in a path Envoy escapes it; over HTTP/1.1 it is refused, also \
              by the second sidecar in a query, which stays as it is",
        takes_in: |protocol, path| {
            let judged =
                if protocol == Http1 { path } else { path.split_once('?').map_or("", |(_, query)| query) };
            !judged.is_ascii()
        },
        examples: &[(Http1, "/é", None), (Http1, "/a?é", None), (Http2, "/a?é", None)],
    },
    Difference {
        why: "Envoy's parser of HTTP/1.1 takes an absolute URL apart, so it is never a `:path`",
        takes_in: |protocol, path| {
            protocol == Http1 && (path.starts_with("http://") || path.starts_with("https://"))
        },
        examples: &[
            (Http1, "http://ledger.sample:5000/a/../%62", Some("/b")),
            (Http1, "https://x@ledger.sample:5000", Some("/")),
        ],
    },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// One request for a path, as this protocol writes it.
    fn request(self, path: &str, host: &str, id: &str) -> Vec<u8> {
        match self {
            Http1 => {
                let fields = format!("host: {host}\r\nx-request-id: {id}\r\nconnection: close\r\n");
                format!("GET {path} HTTP/1.1\r\n{fields}\r\n").into_bytes()
            }
            Http2 => http2_request(path, host, id),
        }
    }

    /// Sends a request on a connection of its own; whether it came to the application and back.
    async fn send(self, to: SocketAddr, request: &[u8]) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        while !self.is_whole(&answer) && stream.read_buf(&mut answer).await? > 0 {}
        Ok(self.is_ok(&answer))
    }

    fn is_whole(self, answer: &[u8]) -> bool {
        match self {
            Http1 => answer.windows(4).any(|end| end == b"\r\n\r\n"),
            // GOAWAY, RST_STREAM, or the end of the stream.
            Http2 => {
                frames(answer).any(|(kind, flags, _)| matches!((kind, flags & 1), (7 | 3, _) | (0 | 1, 1)))
            }
        }
    }

    fn is_ok(self, answer: &[u8]) -> bool {
        match self {
            Http1 => answer.starts_with(b"HTTP/1.1 200 "),
            // HEADERS; 0x88 is `:status: 200` of HPACK's static table.
            Http2 => frames(answer).any(|(kind, _, payload)| kind == 1 && payload.first() == Some(&0x88)),
        }
    }
}

/// A connection of one request, with every header written out in full.
fn http2_request(path: &str, host: &str, id: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).expect("a short frame").to_be_bytes();
        [&[0], &length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    let headers = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", host),
        (":path", path),
        ("x-request-id", id),
    ];
    let block = headers.map(|(name, value)| [vec![0], text(name), text(value)].concat()).concat();
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat()
}

/// The whole frames of an answer: kind, flags, payload.
fn frames(mut rest: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, kind, flags, _, _, _, _, after @ ..] = rest else { return None };
        let (payload, after) = after.split_at_checked(u32::from_be_bytes([0, *a, *b, *c]) as usize)?;
        rest = after;
        Some((*kind, *flags, payload))
    })
}

/// The paths in a proxy's access log by request, once all of these requests that were served are there.
async fn handed_on(lab: &Lab, proxy: &str, sent: &BTreeMap<String, bool>) -> BTreeMap<String, String> {
    eventually(async || {
        let log = lab.access_log(proxy).map_err(|error| error.to_string())?;
        let text = |line: &serde_json::Value, field: &str| line[field].as_str().map(str::to_owned);
        let paths: BTreeMap<String, String> =
            log.iter().filter_map(|line| Some((text(line, "request_id")?, text(line, "path")?))).collect();
        match sent.iter().find(|(id, served)| **served && !paths.contains_key(*id)) {
            None => Ok(paths),
            Some((id, _)) => Err(format!("{proxy} has no line for {id}")),
        }
    })
    .await
}

/// Sends all paths through the client's sidecar and the service's; what each handed on, `None` where it was refused.
async fn through(lab: &Lab, paths: &[(Protocol, &str)]) -> Vec<[Option<String>; 2]> {
    let to = lab.client(&sleep()).expect("a client");
    let mut sent = BTreeMap::new();
    for (number, (protocol, path)) in paths.iter().enumerate() {
        let id = format!("path-{number:06}");
        let served = protocol
            .send(to, &protocol.request(path, HOST, &id))
            .await
            .expect("an answer, or the end of the connection");
        sent.insert(id, served);
    }
    let first = handed_on(lab, "cluster1/sleep.sample", &sent).await;
    let second = handed_on(lab, "cluster2/ledger-v1.sample", &sent).await;
    let of = |log: &BTreeMap<String, String>, id: &String| {
        let path = log.get(id)?;
        Some(path.split('?').next().unwrap_or_default().to_owned())
    };
    sent.iter()
        .map(|(id, served)| [&first, &second].map(|log| if *served { of(log, id) } else { None }))
        .collect()
}

/// What differs and should not, a line for each path.
fn faults(paths: &[(Protocol, &str)], answers: &[[Option<String>; 2]]) -> Vec<String> {
    assert_eq!(paths.len(), answers.len());
    let mut faults = Vec::new();
    for ((protocol, path), [first, second]) in paths.iter().zip(answers) {
        let ours = normalise(path).map(Cow::into_owned);
        let explained = DIFFERENCES.iter().any(|difference| (difference.takes_in)(*protocol, path));
        if ours != *first && !explained {
            faults.push(format!("{protocol:?} {path:?}: Envoy hands on {first:?}, normalise says {ours:?}"));
        }
        // What a filter is given is already normal, or not known.
        for given in [first, second].into_iter().flatten() {
            let again = normalise(given);
            let resolved = path.contains(';') && again.is_none();
            if again.as_deref() != Some(given) && !resolved {
                faults.push(format!("{protocol:?} {path:?}: handed on as {given:?}, then {again:?}"));
            }
        }
    }
    faults
}

#[tokio::test]
async fn a_path_is_what_envoy_hands_on_under_istios_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    let lab = up(dir.path()).await;
    let examples = || DIFFERENCES.iter().flat_map(|d| d.examples.iter().map(move |example| (d, example)));
    let paths: Vec<(Protocol, &str)> = [Http1, Http2]
        .into_iter()
        .flat_map(|protocol| AGREED.iter().map(move |path| (protocol, *path)))
        .chain(examples().map(|(_, (protocol, path, _))| (*protocol, *path)))
        .collect();
    let answers = through(&lab, &paths).await;
    let faults = faults(&paths, &answers);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let of_examples = answers.iter().skip(2 * AGREED.len());
    for ((difference, (protocol, path, expected)), [first, _]) in examples().zip(of_examples) {
        assert_eq!(first.as_deref(), *expected, "{protocol:?} {path:?}");
        assert!((difference.takes_in)(*protocol, path), "{path:?} is no case of: {}", difference.why);
        assert_ne!(normalise(path).as_deref(), *expected, "{path:?} agrees, in spite of: {}", difference.why);
    }
    lab.down().await.expect("all processes ended");
}

/// What a filter sees as the host proves nothing, and is not even what stands in `Host`.
#[tokio::test]
async fn a_host_is_handed_on_as_the_peer_wrote_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let lab = up(dir.path()).await;
    let to = lab.client(&sleep()).expect("a client");
    let hosts = [
        (Http1, "/", "ledger.sample", "ledger.sample"),
        (Http2, "/", "Ledger.SAMPLE:5000", "Ledger.SAMPLE:5000"),
        (Http1, "/", "LEDGER.sample.svc.cluster.local:5000", "LEDGER.sample.svc.cluster.local:5000"),
        (Http1, "http://ledger.sample:5000/", "helloworld.sample", "ledger.sample:5000"),
    ];
    for (number, (protocol, path, host, _)) in hosts.iter().enumerate() {
        let request = protocol.request(path, host, &format!("host-{number}"));
        assert!(protocol.send(to, &request).await.expect("an answer"), "{host} is not served");
    }
    let seen = eventually(async || {
        let log = lab.access_log("cluster2/ledger-v1.sample").map_err(|error| error.to_string())?;
        if log.len() < hosts.len() { Err(format!("{} lines", log.len())) } else { Ok(log) }
    })
    .await;
    for (number, (.., expected)) in hosts.iter().enumerate() {
        let line = seen.iter().find(|line| line["request_id"] == format!("host-{number}"));
        assert_eq!(line.map(|line| &line["authority"]), Some(&serde_json::json!(expected)));
    }
    lab.down().await.expect("all processes ended");
}

/// A stream of numbers that a seed decides (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }

    fn path(&mut self) -> String {
        const PIECES: [&str; 52] = [
            "/", "/", "/", "/", "//", "\\", ".", "..", "/.", "/..", "/../", "%2e", "%2E", "%2f", "%5C", "%",
            "%", "%4", "%41", "%34", "%31", "%63", "%zz", "%7e", "%25", "%3b", ";", ";x=1", "/..;", "/.;x",
            "a", "b", "1", "4", "f", "b.c", "~", "|", "\"", "{}", "*", "é", "?", "#", ":", "@", "[", "+",
            "%c3", "A", "%00", " ",
        ];
        let rest: String =
            (0..=self.below(9)).filter_map(|_| PIECES.get(self.below(PIECES.len()))).copied().collect();
        // HTTP/1.1 takes spaces before its version for one: they are no part of the path.
        format!("/{rest}").trim_end_matches(' ').to_owned()
    }
}

#[tokio::test]
async fn random_paths_are_what_envoy_hands_on() {
    let seed = match std::env::var("ISTHMUS_SEED") {
        Ok(seed) => seed.parse().expect("ISTHMUS_SEED is a number"),
        Err(_) => time::OffsetDateTime::now_utc().unix_timestamp().unsigned_abs(),
    };
    let mut dice = Dice(seed);
    let made: Vec<String> = (0..600).map(|_| dice.path()).collect();
    let paths: Vec<(Protocol, &str)> =
        (0..).zip(&made).map(|(n, path)| (if n % 2 == 0 { Http1 } else { Http2 }, path.as_str())).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let lab = up(dir.path()).await;
    let answers = through(&lab, &paths).await;
    let served = answers.iter().filter(|[first, _]| first.is_some()).count();
    let changed =
        answers.iter().zip(&made).filter(|([first, _], path)| first.as_ref().is_some_and(|p| p != *path));
    let changed = changed.count();
    println!("seed {seed}: {} paths, {served} handed on, {changed} of them changed", made.len());
    assert!(served > 300 && changed > 100, "seed {seed}: too few paths say anything");
    let faults = faults(&paths, &answers);
    assert!(faults.is_empty(), "ISTHMUS_SEED={seed}\n{}", faults.join("\n"));
    lab.down().await.expect("all processes ended");
}

//! The path of a request as Envoy normalises it under Istio's defaults, which is what `paths` is matched against.
//!
//! Istio's `MeshConfig.pathNormalization` is `BASE` unless a mesh says otherwise. istiod then sets
//! `normalize_path: true` and `path_with_escaped_slashes_action: KEEP_UNCHANGED` on every listener, and the agent
//! starts Envoy with `http_reject_path_with_fragment` off. A real Envoy is asked for each of these lines by
//! `tests/tests/lab/paths.rs`:
//!
//! | in the path | example | becomes |
//! |---|---|---|
//! | query, fragment | `/a?b`, `/a#b?c` | `/a`: dropped, from the first `?` or `#` |
//! | dot segments, also as `%2e` | `/a/../b`, `/a/%2E%2e/b`, `/a/.` | `/b`, `/b`, `/a/`; `..` at the top does nothing |
//! | `\` | `/a\b`, `/a\..\b` | `/a/b`, `/b`: a slash |
//! | escaped letter, digit, `-`, `.`, `_`, `~` | `/%41%7e` | `/A~` |
//! | any other escape | `/%2f%5C%3a%c3` | kept, with the case it has |
//! | `%` that escapes nothing | `/%zz`, `/%` | kept |
//! | such a `%` that would escape something now | `/%%34%31` | `/%2541`: itself escaped |
//! | ``" < > ^ ` { }`` and a vertical bar, bytes that are not ASCII | `/a^`, `/é` | `/a%5E`, `/%C3%A9` (`/é` over HTTP/1.1 is refused) |
//! | `//` | `/a//b`, `/a//../b` | kept; `/a/b` |
//! | `%2f`, `%5c` | `/a%2fb`, `/a/..%2fb` | kept: no slash |
//! | `;` and what follows | `/a;x=1/b` | kept |
//! | upper and lower case | `/Admin` | kept |
//! | space, control character, DEL anywhere; `%00` | `/a b`, `/%00` | `None`: Envoy refuses |
//! | anything that begins with no `/` | `*`, `a`, `?q`, nothing at all | `None`: Envoy refuses |
//! | dot segment with parameters | `/a/..;/b`, `/a/.;x` | `None`: not known |
//!
//! The last line is ours. Envoy 1.36.10, 1.37.6, 1.38.4, 1.39.1 and 1.40 make `/b` of `/a/..;/b` (CVE-2026-73551);
//! older ones hand it on, and all of them make `/a/..;/b` of `/a/%2e%2e;/b` and hand that on. A server may take it
//! for `/b` or for a name below `/a`. So no rule can rely on either: such a path is treated as one that is not
//! known, which never helps the peer.
//!
//! An absolute URL as HTTP/1.1 allows it (`GET http://host/a`) is taken apart by Envoy before any filter sees the
//! request, and is no `:path`.
//!
//! # What this means for policies
//!
//! A deny rule takes in what it says after normalisation and nothing more. One for `/admin/*` does **not** take in
//! `//admin/x`, `/admin%2fx`, `/Admin/x` or `/admin;v=1/x`, while the server behind may take them for the same.
//! `MeshConfig.pathNormalization.normalization` set to `MERGE_SLASHES` makes Envoy fold `//`, and
//! `DECODE_AND_MERGE_SLASHES` also decode `%2f` and `%5c` first; the filter then sees the path so folded. With
//! `NONE` the server gets the path as the peer wrote it, though it is judged by the table above: do not match on paths
//! in such a mesh. An allow rule of exact paths fails safe in all of this: list what may be asked for. One for
//! `/books/*` takes in `/books/..%2fadmin` too, which is `/admin` to a server that decodes `%2f`.

use std::borrow::Cow;

/// What Envoy makes of a raw `:path`, without query and fragment; `None` where it refuses the request, or where
/// servers differ on what the path means.
///
/// What came out once comes out the same again: a filter gets the path after Envoy has normalised it.
///
/// ```
/// use policy::path::normalise;
/// assert_eq!(normalise("/v1/../admin/%75sers?all#top").as_deref(), Some("/admin/users"));
/// assert_eq!(normalise("/v1//users%2f7").as_deref(), Some("/v1//users%2f7"));
/// assert_eq!(normalise("/v1/%00"), None);
/// ```
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    let mut end = path.len();
    let mut ordinary = true;
    let mut before = 0;
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            0..=b' ' | 0x7f => return None,
            _ if end < at => {}
            b'?' | b'#' => end = at,
            b'.' if before == b'/' => ordinary = false,
            byte => ordinary &= passes(byte),
        }
        before = byte;
    }
    let path = path.get(..end)?;
    if !path.starts_with('/') {
        None
    } else if ordinary {
        Some(Cow::Borrowed(path))
    } else {
        let rewritten = rewritten(path)?;
        Some(if rewritten == path { Cow::Borrowed(path) } else { Cow::Owned(rewritten) })
    }
}

/// Whether a byte stands for itself wherever it is.
fn passes(byte: u8) -> bool {
    unreserved(byte) || b"/!$&'()*+,:;=@[]".contains(&byte)
}

/// Whether a byte is never escaped.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn rewritten(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    out.push('/');
    let mut segments = path.split(['/', '\\']).skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        append(&mut out, segment)?;
        match out.get(start..)? {
            "." => out.truncate(start),
            ".." => {
                let above = out.get(..start - 1)?;
                out.truncate(above.rfind('/').map_or(1, |slash| slash + 1));
            }
            name if name.starts_with(".;") || name.starts_with("..;") => return None,
            _ if segments.peek().is_some() => out.push('/'),
            _ => {}
        }
    }
    Some(out)
}

/// Appends one segment; `None` when it holds an escaped NUL.
fn append(out: &mut String, segment: &str) -> Option<()> {
    let mut rest = segment.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, escape(rest)) {
            (b'%', Some((0, ..))) => return None,
            (b'%', Some((plain, _, after))) if unreserved(plain) => {
                rest = after;
                out.push(char::from(plain));
                disarm(out, rest);
            }
            (b'%', Some((_, digits, after))) => {
                rest = after;
                out.push('%');
                out.extend(digits.map(char::from));
            }
            (byte, _) if *byte == b'%' || passes(*byte) => out.push(char::from(*byte)),
            (byte, _) => {
                let [high, low] =
                    [byte >> 4, byte & 15].map(|digit| b"0123456789ABCDEF".get(usize::from(digit)));
                out.extend([b'%', *high?, *low?].map(char::from));
            }
        }
    }
    Some(())
}

/// The byte that a `%` before `text` escapes, the two digits that say so, and what follows them.
fn escape(text: &[u8]) -> Option<(u8, [u8; 2], &[u8])> {
    let [high, low, after @ ..] = text else { return None };
    Some((hex(*high)? << 4 | hex(*low)?, [*high, *low], after))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Escapes a `%` that escaped nothing, where the character now unescaped behind it makes an escape of it.
fn disarm(out: &mut String, next: &[u8]) {
    let back = match (out.as_bytes(), next) {
        ([.., b'%', high, low], _) if hex(*high).and(hex(*low)).is_some() => 2,
        ([.., b'%', high], [low, ..]) if hex(*high).and(hex(*low)).is_some() => 1,
        _ => return,
    };
    out.insert_str(out.len() - back, "25");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(pairs: &[(&str, &str)]) {
        for (raw, expected) in pairs {
            let normal = normalise(raw);
            assert_eq!(normal.as_deref(), Some(*expected), "{raw}");
            assert!(
                matches!(normalise(expected), Some(Cow::Borrowed(same)) if same == *expected),
                "{raw}, again"
            );
        }
    }

    fn kept(paths: &[&str]) {
        for path in paths {
            assert!(matches!(normalise(path), Some(Cow::Borrowed(same)) if same == *path), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_borrowed() {
        kept(&[
            "/",
            "/v1/accounts",
            "/a_b-c~d/",
            "/package.Service/Method",
            "/.well-known/x",
            "/a/...",
            "/..a/b",
        ]);
        kept(&["/*", "/a:b@c!$&'()*+,;=[]", "/Admin"]);
        assert!(matches!(normalise("/a?b"), Some(Cow::Borrowed("/a"))));
    }

    #[test]
    fn what_servers_may_take_for_a_slash_or_for_nothing_is_kept() {
        kept(&[
            "//",
            "//admin",
            "/a//b/",
            "/a%2fb",
            "/a%2F..%2fb",
            "/a/..%2fb",
            "/%5c..%5C",
            "/a;x=1/b",
            "/a/;/b",
        ]);
    }

    #[test]
    fn queries_and_fragments_are_dropped() {
        becomes(&[("/?", "/"), ("/a?b?c#d", "/a"), ("/a#b?c", "/a"), ("/a?../..", "/a"), ("/a?%00", "/a")]);
        becomes(&[("/a/..?x/..;/b", "/"), ("/a?é", "/a")]);
    }

    #[test]
    fn dot_segments_are_resolved() {
        becomes(&[
            ("/.", "/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a/..", "/"),
        ]);
        becomes(&[("/a/b/../c", "/a/c"), ("/a/b/..", "/a/"), ("/a/../../b", "/b"), ("/./a", "/a")]);
        becomes(&[("/a//../b", "/a/b"), ("/a//../../b", "/b"), ("//x/../y", "//y"), ("//..", "/")]);
        becomes(&[("/%2e%2E/a", "/a"), ("/a/.%2e/b", "/b"), ("/a/%2e", "/a/"), ("/a/.%2e%2e/b", "/a/.../b")]);
    }

    #[test]
    fn a_backslash_is_a_slash() {
        becomes(&[("/a\\b", "/a/b"), ("/a\\..\\b", "/b"), ("/\\", "//"), ("/.\\..\\a", "/a")]);
    }

    #[test]
    fn escapes_of_what_needs_none_are_undone_and_no_others() {
        becomes(&[("/%41%7a%30%2D%5f%7E", "/Az0-_~"), ("/a%2eb", "/a.b")]);
        kept(&["/%25%20%3A%3a%c3%A9%7f%01", "/%252e%252e/", "/a%3bb", "/a/..%3b/b"]);
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays_so() {
        kept(&["/%", "/%z", "/%zz", "/%4", "/%%", "/%%25"]);
        becomes(&[
            ("/%%34%31", "/%2541"),
            ("/%4%31", "/%2541"),
            ("/%%341", "/%2541"),
            ("/%%%34%31", "/%%2541"),
        ]);
        becomes(&[
            ("/%%300", "/%2500"),
            ("/%2%35", "/%2525"),
            ("/%%32%35%34%31", "/%252541"),
            ("/%\\%34%31", "/%/41"),
        ]);
        becomes(&[
            ("/%%32e/%2e%2e/x", "/x"),
            ("/a%/../%34%31%356", "/4156"),
            ("/%%2e1", "/%.1"),
            ("/%;%34%31", "/%;41"),
        ]);
    }

    #[test]
    fn what_may_not_stand_in_a_url_is_escaped() {
        becomes(&[
            ("/a\"b<c>`{|}^", "/a%22b%3Cc%3E%60%7B%7C%7D%5E"),
            ("/é", "/%C3%A9"),
            ("/%|%34%31", "/%%7C41"),
        ]);
    }

    #[test]
    fn what_envoy_refuses_has_no_path() {
        for refused in ["", "*", "a", "?x", "#x", "\\a", "http://x/y", "%2fa", "/%00", "/a/%00/../b"] {
            assert_eq!(normalise(refused), None, "{refused}");
        }
        for byte in (0..=b' ').chain([0x7f]) {
            for refused in [format!("/a{}b", char::from(byte)), format!("/a?b{}", char::from(byte))] {
                assert_eq!(normalise(&refused), None, "{refused:?}");
            }
        }
    }

    #[test]
    fn a_dot_segment_with_parameters_is_not_known() {
        for path in
            ["/a/..;/b", "/a/..;x=1/b", "/a/.;", "/a/%2e%2e;/b", "/a\\..;\\b", "/..;b/../c", "/a/..;?q"]
        {
            assert_eq!(normalise(path), None, "{path}");
        }
        kept(&["/a;..;/b", "/a/...;/b", "/a/;../b"]);
    }
}

//! A request that shows the filter whatever it likes.

use isthmus_filter::host::{Headers, Host, Kind, Level, Metric, Reply};
use isthmus_filter::pairs;
use policy::plan::Home;

/// A leaf that the intermediate CA of `us-1` in [`MESH`](crate::MESH) has signed.
const LEAF: &[u8] = include_bytes!("../leaf.pem");

/// A request, its connection and its proxy; what it shows stands in the order of [`Request::SHOWN`].
#[derive(Debug)]
pub struct Request<'a> {
    home: &'a Home,
    shown: Vec<&'a [u8]>,
    headers: Vec<u8>,
}

impl<'a> Request<'a> {
    /// The headers and properties that a request shows, line by line; `*` is any other header.
    pub const SHOWN: [&'static str; 13] = [
        ":authority",
        ":method",
        ":path",
        "x-source-cluster",
        "x-isthmus-route",
        "content-type",
        "*",
        "NAMESPACE",
        "LABELS",
        "connection\0uri_san_peer_certificate",
        "connection\0requested_server_name",
        "source\0address",
        "xds\0cluster_name",
    ];

    /// A request to a proxy of `home`.
    pub fn new(home: &'a Home, shown: Vec<&'a [u8]>) -> Self {
        let named = Self::SHOWN.iter().zip(&shown).filter(|(name, _)| !name.contains(['\0', 'A']));
        let headers = pairs::encode(&Vec::from_iter(named.map(|(name, value)| (name.as_bytes(), *value))));
        Self { home, shown, headers }
    }

    /// A request whose headers are these bytes, whatever they are.
    pub fn raw(home: &'a Home, headers: &[u8]) -> Self {
        Self { headers: headers.to_vec(), ..Self::new(home, Vec::new()) }
    }

    fn shown(&self, name: &str) -> Option<&[u8]> {
        let at = Self::SHOWN.iter().position(|shown| *shown == name)?;
        self.shown.get(at).copied().filter(|value| !value.is_empty())
    }
}

impl Host for Request<'_> {
    fn headers(&self, _: Headers) -> &[u8] {
        &self.headers
    }

    fn header(&self, _: Headers, name: &str) -> Option<&[u8]> {
        self.shown(if Self::SHOWN.contains(&name) { name } else { "*" })
    }

    fn set_header(&self, _: Headers, _: &str, _: &str) {}

    fn add_header(&self, _: Headers, _: &str, _: &str) {}

    fn remove_header(&self, _: Headers, _: &str) {}

    fn property(&self, path: &str) -> Option<&[u8]> {
        match path.strip_prefix("xds\0node\0metadata\0") {
            Some("CLUSTER_ID") => Some(self.home.cluster.as_str().as_bytes()),
            Some("NETWORK") => Some(self.home.network.as_str().as_bytes()),
            Some("NAMESPACE") => self.shown("NAMESPACE").or(Some(b"payments")),
            Some(_) => self.shown("LABELS"),
            None => match path {
                "connection\0peer_certificate" => Some(LEAF),
                "connection\0sha256_peer_certificate_digest" | "connection\0peer_certificate_valid" => {
                    Some(&[1])
                }
                _ => self.shown(path),
            },
        }
    }

    fn set_state(&self, _: &str, _: &str) {}

    fn declare_lasting(&self, _: &str) -> bool {
        true
    }

    fn has_mark(&self, _: &str) -> bool {
        false
    }

    fn metric(&self, kind: Kind, _: &str) -> Option<Metric> {
        Some(Metric(kind as u32))
    }

    fn count(&self, _: Metric) {}

    fn gauge(&self, _: Metric, _: u64) {}

    fn reply(&self, reply: &Reply) {
        assert_eq!(reply.status, 403);
    }

    fn now(&self) -> u64 {
        0
    }

    fn close(&self) {}

    fn log(&self, _: Level, _: &str) {}
}

//! A request that shows the filter whatever it likes.

use isthmus_filter::host::{Headers, Host, Level, Reply};
use policy::plan::Home;

/// A leaf that the intermediate CA of `us-1` in [`MESH`](crate::MESH) has signed.
const LEAF: &[u8] = include_bytes!("../leaf.pem");

/// A request, its connection and its proxy; what it shows stands in the order of [`Request::SHOWN`].
#[derive(Debug)]
pub struct Request<'a> {
    home: &'a Home,
    shown: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// The headers and properties that a request shows, line by line; `*` is any other header.
    pub const SHOWN: [&'static str; 11] = [
        ":authority",
        ":method",
        ":path",
        "x-source-cluster",
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
        Self { home, shown }
    }

    fn shown(&self, name: &str) -> Option<Vec<u8>> {
        let at = Self::SHOWN.iter().position(|shown| *shown == name)?;
        self.shown.get(at).filter(|value| !value.is_empty()).map(|value| value.to_vec())
    }
}

impl Host for Request<'_> {
    fn header(&self, _: Headers, name: &str) -> Option<Vec<u8>> {
        self.shown(if Self::SHOWN.contains(&name) { name } else { "*" })
    }

    fn set_header(&self, _: Headers, _: &str, _: &str) {}

    fn remove_header(&self, _: Headers, _: &str) {}

    fn property(&self, path: &str) -> Option<Vec<u8>> {
        match path.strip_prefix("xds\0node\0metadata\0") {
            Some("CLUSTER_ID") => Some(self.home.cluster.as_str().into()),
            Some("NETWORK") => Some(self.home.network.as_str().into()),
            Some("NAMESPACE") => self.shown("NAMESPACE").or_else(|| Some(b"payments".to_vec())),
            Some(_) => self.shown("LABELS"),
            None => match path {
                "connection\0peer_certificate" => Some(LEAF.to_vec()),
                "connection\0sha256_peer_certificate_digest" | "connection\0peer_certificate_valid" => {
                    Some(vec![1])
                }
                _ => self.shown(path),
            },
        }
    }

    fn set_state(&self, _: &str, _: &str) {}

    fn reply(&self, reply: &Reply) {
        assert_eq!(reply.status, 403);
    }

    fn now(&self) -> u64 {
        0
    }

    fn close(&self) {}

    fn log(&self, _: Level, _: &str) {}
}

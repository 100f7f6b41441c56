//! What a proxy knows, by the paths of Envoy's attributes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use crate::sandbox::{Connection, Direction, Node, PeerCertificate, Tls};

/// The paths that can be said.
const PATHS: &str = "source.address, destination.address, upstream.address, connection.requested_server_name, \
                     connection.tls_version, connection.uri_san_peer_certificate, connection.subject_peer_certificate, \
                     connection.sha256_peer_certificate_digest, connection.peer_certificate, xds.cluster_name, xds.node.id, \
                     xds.node.cluster, xds.node.metadata.KEY, xds.listener_direction";

/// One attribute, as the command line says it.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    path: String,
    value: String,
}

impl FromStr for Attribute {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (path, value) = text.split_once('=').context("write PATH=VALUE")?;
        Ok(Self { path: path.to_owned(), value: value.to_owned() })
    }
}

/// What a proxy knows of itself and of a connection.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) node: Node,
    connection: Connection,
    tls: Option<Tls>,
}

impl Known {
    /// Nothing but that there is a connection.
    pub(super) fn nothing() -> Self {
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self { node: Node::default(), connection: Connection::new(here(40000), here(80)), tls: None }
    }

    pub(super) fn connection(&self) -> Connection {
        match &self.tls {
            Some(tls) => self.connection.clone().with_tls(tls.clone()),
            None => self.connection.clone(),
        }
    }

    fn tls(&mut self) -> &mut Tls {
        self.tls.get_or_insert_with(|| Tls { version: "TLSv1.3".to_owned(), ..Tls::default() })
    }

    fn peer(&mut self) -> &mut PeerCertificate {
        self.tls().peer.get_or_insert_with(|| PeerCertificate { valid: true, ..PeerCertificate::default() })
    }
}

impl Attribute {
    /// Puts it where the module will find it.
    pub(super) fn set(&self, known: &mut Known) -> anyhow::Result<()> {
        let (node, connection) = (&mut known.node, &mut known.connection);
        let Self { path, value } = self;
        let owned = || value.clone();
        match path.as_str() {
            "source.address" => connection.source = self.address()?,
            "destination.address" => connection.destination = self.address()?,
            "upstream.address" => connection.upstream = Some(self.address()?),
            "connection.requested_server_name" => connection.requested_server_name = owned(),
            "connection.tls_version" => known.tls().version = owned(),
            "connection.uri_san_peer_certificate" => known.peer().uri_san = Some(owned()),
            "connection.subject_peer_certificate" => known.peer().subject = owned(),
            "connection.sha256_peer_certificate_digest" => known.peer().sha256 = owned(),
            "connection.peer_certificate" => known.peer().pem = owned(),
            "xds.cluster_name" => connection.upstream_cluster = Some(owned()),
            "xds.node.id" => node.id = owned(),
            "xds.node.cluster" => node.cluster = owned(),
            "xds.listener_direction" => node.listener_direction = self.direction()?,
            _ => match path.strip_prefix("xds.node.metadata.") {
                Some(keys) => put(&mut node.metadata, keys, value),
                None => bail!("--attribute {path} cannot be said here; there are {PATHS}"),
            },
        }
        Ok(())
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        let Self { path, value } = self;
        value.parse().with_context(|| format!("--attribute {path}: {value:?} is not ADDRESS:PORT"))
    }

    fn direction(&self) -> anyhow::Result<Direction> {
        Ok(match self.value.as_str() {
            "inbound" | "1" => Direction::Inbound,
            "outbound" | "2" => Direction::Outbound,
            other => bail!("--attribute {}: {other:?} is neither inbound nor outbound", self.path),
        })
    }
}

/// Puts a value under keys with dots between them: JSON where it is some, else a text.
fn put(metadata: &mut Value, keys: &str, value: &str) {
    let value = serde_json::from_str(value).unwrap_or_else(|_text| Value::String(value.to_owned()));
    let mut place = metadata;
    for key in keys.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = value;
}

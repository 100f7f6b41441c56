//! What the guest can learn about where it runs and whom it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value as Json;

use super::callout::Clusters;
use super::failure::FailurePolicy;
use super::filter_state::ConnectionState;

/// The proxy a VM runs in: what `xds.node` and `xds.listener_direction` say.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `xds.node.id`.
    pub id: String,
    /// `xds.node.cluster`.
    pub cluster: String,
    /// `xds.node.metadata`, which guests walk key by key.
    pub metadata: Json,
    /// `xds.node.locality`.
    pub locality: Locality,
    /// Which Envoy it is: later ones have attributes that earlier ones have not, and the other way round.
    pub envoy: EnvoyVersion,
    /// The direction of the listener that streams come through.
    pub listener_direction: Direction,
    /// The clusters that callouts can go to.
    pub clusters: Clusters,
}

/// A release of Envoy: 1.40 unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    /// The second number; the first is 1.
    pub minor: u32,
}

impl Default for EnvoyVersion {
    fn default() -> Self {
        Self { minor: 40 }
    }
}

/// Where a proxy or an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// `region`.
    pub region: String,
    /// `zone`.
    pub zone: String,
    /// `sub_zone`.
    pub sub_zone: String,
}

/// The version of HTTP that a client speaks: `request.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// `HTTP/1.0`.
    Http10,
    /// `HTTP/1.1`.
    #[default]
    Http11,
    /// `HTTP/2`.
    Http2,
    /// `HTTP/3`.
    Http3,
}

impl HttpVersion {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Http3 => "HTTP/3",
        }
    }
}

/// The route that an HTTP request takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// `xds.route_name`.
    pub name: String,
    /// `xds.route_metadata`: `{"filter_metadata": {"istio": ...}}`.
    pub metadata: Json,
    /// `xds.virtual_host_name`.
    pub virtual_host: String,
    /// `xds.virtual_host_metadata`.
    pub virtual_host_metadata: Json,
}

/// Which way a listener's traffic goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// To the workload beside the proxy.
    Inbound = 1,
    /// From the workload beside the proxy.
    Outbound = 2,
}

/// One configured filter: what Envoy's `PluginConfig` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugin {
    /// `plugin_name`.
    pub name: String,
    /// `plugin_root_id`.
    pub root_id: String,
    /// `plugin_vm_id`.
    pub vm_id: String,
    /// What `on_vm_start` reads.
    pub vm_configuration: Vec<u8>,
    /// What `on_configure` reads.
    pub configuration: Vec<u8>,
    /// The environment of the VM: `environment_variables`, which a guest reads through WASI.
    pub environment: BTreeMap<String, String>,
    /// What the module may import and export: `capability_restriction_config`, by names such as `proxy_http_call`,
    /// `proxy_on_log` and `fd_write`. Empty is everything.
    pub capabilities: BTreeSet<String>,
    /// What becomes of streams when the guest traps.
    pub failure_policy: FailurePolicy,
    /// Whether a pause of headers leaves the body callbacks running: `allow_on_headers_stop_iteration`.
    pub allow_on_headers_stop_iteration: bool,
}

/// A downstream connection, and where its streams are routed. A copy is cheap, and is the same connection.
#[derive(Clone, Debug)]
pub struct Connection(Arc<ConnectionInfo>);

/// What is known of a [`Connection`].
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// `connection.id`: as in Envoy, no two connections of a process have the same.
    pub id: u64,
    /// `source.address` and `source.port`.
    pub source: SocketAddr,
    /// `destination.address` and `destination.port`.
    pub destination: SocketAddr,
    /// The server name of the TLS client hello; empty if there was none.
    pub requested_server_name: String,
    /// The TLS session this proxy ends; `None` on plain text and on TLS that is passed through.
    pub tls: Option<Tls>,
    /// `xds.cluster_name`: the upstream cluster of the route.
    pub upstream_cluster: Option<String>,
    /// `upstream.address` and `upstream.port`, from the response headers on.
    pub upstream: Option<SocketAddr>,
    /// `xds.upstream_host_metadata`, from the response headers on.
    pub upstream_host_metadata: Json,
    /// `upstream.local_address`, from the response headers on.
    pub upstream_local: Option<SocketAddr>,
    /// `upstream.locality`, from the response headers on.
    pub upstream_locality: Locality,
    /// The TLS session with the upstream, from the response headers on. Its own certificate is the local one.
    pub upstream_tls: Option<Tls>,
    /// The version of HTTP on a connection that has any.
    pub protocol: HttpVersion,
    /// The route of its HTTP requests.
    pub route: Route,
    /// `xds.cluster_metadata`.
    pub cluster_metadata: Json,
    /// `xds.listener_metadata`.
    pub listener_metadata: Json,
    /// `xds.filter_chain_name`.
    pub filter_chain_name: String,
    /// `metadata`: what filters before this one have said of the stream.
    pub metadata: Json,
    /// Whether the filter stands behind the load balancer, where the upstream host is known from the start.
    pub upstream_filter: bool,
    /// How many bytes of a body Envoy buffers for a filter: `per_connection_buffer_limit_bytes`, 1 MiB unless said.
    pub buffer_limit: usize,
    /// What filters leave for later streams of the connection.
    pub(crate) filter_state: ConnectionState,
}

impl Deref for Connection {
    type Target = ConnectionInfo;

    fn deref(&self) -> &ConnectionInfo {
        &self.0
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut ConnectionInfo {
        Arc::make_mut(&mut self.0)
    }
}

impl Connection {
    /// A plain-text connection with nothing known but its ends.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(ConnectionInfo {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source,
            destination,
            requested_server_name: String::new(),
            tls: None,
            upstream_cluster: None,
            upstream: None,
            upstream_host_metadata: Json::Null,
            upstream_local: None,
            upstream_locality: Locality::default(),
            upstream_tls: None,
            protocol: HttpVersion::default(),
            route: Route::default(),
            cluster_metadata: Json::Null,
            listener_metadata: Json::Null,
            filter_chain_name: String::new(),
            metadata: Json::Null,
            upstream_filter: false,
            buffer_limit: 1 << 20,
            filter_state: ConnectionState::default(),
        }))
    }

    /// The same connection with a client hello that asks for `name`.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.requested_server_name = name.into();
        self
    }

    /// The same connection over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same connection, routed to the upstream cluster `name`.
    #[must_use]
    pub fn with_upstream_cluster(mut self, name: impl Into<String>) -> Self {
        self.upstream_cluster = Some(name.into());
        self
    }

    /// The same connection, on to an upstream host of this metadata: `{"filter_metadata": {"istio": ...}}`.
    #[must_use]
    pub fn with_upstream_host_metadata(mut self, metadata: Json) -> Self {
        self.upstream_host_metadata = metadata;
        self
    }

    /// The same connection, speaking `protocol`.
    #[must_use]
    pub fn with_protocol(mut self, protocol: HttpVersion) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same connection, whose requests take `route`.
    #[must_use]
    pub fn with_route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// The same connection, seen by a filter behind the load balancer.
    #[must_use]
    pub fn with_upstream_filter(mut self) -> Self {
        self.upstream_filter = true;
        self
    }

    /// The same connection, for whose bodies Envoy buffers at most `bytes`.
    #[must_use]
    pub fn with_buffer_limit(mut self, bytes: usize) -> Self {
        self.buffer_limit = bytes;
        self
    }

    /// The same connection, in whose filter state another filter has left a value; what a proxy-wasm module leaves has
    /// a key that begins with `wasm.`.
    #[must_use]
    pub fn with_filter_state(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.filter_state.put(key.into(), value.into());
        self
    }

    /// Whether the client presented a certificate: `connection.mtls`.
    #[must_use]
    pub fn mtls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.peer.is_some())
    }
}

/// A TLS session that the proxy ends.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `connection.tls_version`, such as `TLSv1.3`.
    pub version: String,
    /// `connection.uri_san_local_certificate`.
    pub uri_san_local_certificate: Option<String>,
    /// `connection.dns_san_local_certificate`.
    pub dns_san_local_certificate: Option<String>,
    /// `connection.subject_local_certificate`.
    pub subject_local_certificate: String,
    /// The client's certificate, if it presented one.
    pub peer: Option<PeerCertificate>,
}

/// The certificate a client presented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// `connection.peer_certificate`: the leaf alone.
    pub pem: String,
    /// `connection.sha256_peer_certificate_digest`: 64 lower-case hex digits.
    pub sha256: String,
    /// `connection.uri_san_peer_certificate`: the first URI.
    pub uri_san: Option<String>,
    /// `connection.dns_san_peer_certificate`: the first name.
    pub dns_san: Option<String>,
    /// `connection.subject_peer_certificate`.
    pub subject: String,
    /// `connection.peer_certificate_valid`: whether the chain was verified.
    pub valid: bool,
}

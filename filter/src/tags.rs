//! The headers by which proxies and applications are told where a request comes from and goes to.

/// The tag that names the source cluster.
pub const SOURCE_CLUSTER: &str = "x-source-cluster";
/// The tag that names the source network.
pub const SOURCE_NETWORK: &str = "x-source-network";
/// What an answer says of the cluster that gave it.
pub const DESTINATION_CLUSTER: &str = "x-destination-cluster";
/// What an answer says of the network that it comes from.
pub const DESTINATION_NETWORK: &str = "x-destination-network";
/// What the sidecar's routes match: `cluster`, `network` or `region` to keep a request inside a boundary,
/// `cluster=NAME` to send it to one cluster.
pub const ROUTE: &str = policy::evaluate::ROUTE_HEADER;

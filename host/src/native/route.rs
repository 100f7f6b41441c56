//! VirtualServices: which subset a value of the filter's header leads to.

use std::collections::BTreeSet;

use policy::evaluate::{ROUTE_HEADER, Route};
use policy::name::{ClusterName, Service};
use serde_json::{Value, json};

use super::{Area, Kind, Subset, Ways, label, object};

/// The routes of a service: one for each value of the header, and last the one that there is without us.
///
/// Where clusters share a control plane they share this object, and `network` leads from each of them elsewhere: then a
/// route says from which it is one. No port is said: Istio takes the one that the request was sent to.
pub(super) fn service(service: &Service, ways: &Ways<'_>, shared: bool) -> Value {
    let host = service.host();
    let way = |((route, subset), from): (&(Route<'_>, Subset), &BTreeSet<&ClusterName>)| {
        let value = route.header()?;
        let headers = json!({ROUTE_HEADER: {"exact": value}});
        let told = value.replace('=', "-");
        let (name, matches) = match route {
            Route::Within(_) if shared => {
                let of = |cluster: &&ClusterName| json!({"headers": headers, "sourceLabels": {label(Area::Cluster): cluster.as_str()}});
                (format!("isthmus-{told}-{}", subset.value), from.iter().map(of).collect())
            }
            Route::Within(_) | Route::To(_) | Route::Anywhere => {
                (format!("isthmus-{told}"), json!([{"headers": headers}]))
            }
        };
        let destination = json!({"host": host, "subset": subset.name()});
        Some(json!({"name": name, "match": matches, "route": [{"destination": destination}]}))
    };
    let mut http: Vec<Value> = ways.iter().filter_map(way).collect();
    http.push(json!({"name": "isthmus-anywhere", "route": [{"destination": {"host": host}}]}));
    object(Kind::VirtualService, service, &json!({"hosts": [host], "exportTo": ["*"], "http": http}))
}

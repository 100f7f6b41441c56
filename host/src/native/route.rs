//! VirtualServices: which subset a value of the filter's header leads to.

use policy::evaluate::{ROUTE_HEADER, Route};
use policy::name::Service;
use serde_json::{Value, json};

use super::{Kind, Subset, object};

/// The routes of a service: one for each value of the header, and last the one that there is without us.
///
/// No port is said: Istio takes the one that the request was sent to.
pub(super) fn service<'p>(service: &Service, routes: impl Iterator<Item = (Route<'p>, Subset)>) -> Value {
    let host = service.host();
    let matched = |(route, subset): (Route<'p>, Subset)| {
        let value = route.header()?;
        Some(json!({
            "name": format!("isthmus-{}", value.replace('=', "-")),
            "match": [{"headers": {ROUTE_HEADER: {"exact": value}}}],
            "route": [{"destination": {"host": host, "subset": subset.name()}}],
        }))
    };
    let mut http: Vec<Value> = routes.filter_map(matched).collect();
    http.push(json!({"name": "isthmus-anywhere", "route": [{"destination": {"host": host}}]}));
    object(Kind::VirtualService, service, &json!({"hosts": [host], "exportTo": ["*"], "http": http}))
}

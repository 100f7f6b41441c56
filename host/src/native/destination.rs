//! DestinationRules: the subsets of a service, and which of its endpoints come first.

use std::collections::BTreeSet;

use policy::name::{RegionName, Service};
use serde_json::{Value, json};

use super::{Kind, Locality, Subset, label, object};

/// The rule of a service.
pub(super) fn rule(service: &Service, subsets: &BTreeSet<&Subset>, locality: Option<&Locality>) -> Value {
    let mut spec = json!({"host": service.host(), "exportTo": ["*"]});
    if let Some(fields) = spec.as_object_mut() {
        if let Some(locality) = locality {
            fields.insert("trafficPolicy".to_owned(), traffic_policy(locality));
        }
        if !subsets.is_empty() {
            let subset =
                |subset: &&Subset| json!({"name": subset.name(), "labels": {subset.label(): subset.value}});
            fields.insert("subsets".to_owned(), subsets.iter().map(subset).collect());
        }
    }
    object(Kind::DestinationRule, service, &spec)
}

/// An order of endpoints, with the outlier detection without which istiod gives all of them the same priority.
fn traffic_policy(locality: &Locality) -> Value {
    let order = match locality {
        Locality::Shared(areas) => {
            let labels: Vec<&str> = areas.iter().map(|area| label(*area)).collect();
            json!({"enabled": true, "failoverPriority": labels})
        }
        Locality::Regions { failover } if failover.is_empty() => json!({"enabled": true}),
        Locality::Regions { failover } => {
            let turned =
                |(from, to): (&RegionName, &RegionName)| json!({"from": from.as_str(), "to": to.as_str()});
            json!({"enabled": true, "failover": failover.iter().map(turned).collect::<Vec<Value>>()})
        }
    };
    json!({
        "loadBalancer": {"localityLbSetting": order},
        "outlierDetection": {
            // An application's own 500 says nothing of whether it can be reached.
            "consecutive5xxErrors": 0,
            "consecutiveGatewayErrors": 5,
            "interval": "10s",
            "baseEjectionTime": "30s",
            // Istio's 10 would never leave a place whose every endpoint fails.
            "maxEjectionPercent": 100,
        },
    })
}

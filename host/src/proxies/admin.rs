//! Envoys whose admin interface can be reached from here, such as those of a lab.

use std::net::SocketAddr;

use policy::name::Namespace;
use serde::{Deserialize, Serialize};

use super::reading::QUERY;
use super::{Asking, Kind, Proxy, Reading, Silence};
use crate::kube::many;
use crate::lab::{self, Get, ProxyKind, Sender};
use crate::text::chain;

/// An Envoy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envoy {
    /// What it is called.
    pub name: String,
    /// Its namespace, where that is known.
    pub namespace: Option<Namespace>,
    /// What it is for.
    pub kind: Kind,
    /// Its admin interface.
    pub admin: SocketAddr,
}

impl Envoy {
    /// That of a lab. What a client's sidecar of a lab lacks, a cluster's would have: nothing arrives there.
    pub fn of_lab(proxy: &lab::Proxy) -> Self {
        let kind = match proxy.kind {
            ProxyKind::Client => Kind::Unknown,
            ProxyKind::Server => Kind::Sidecar,
            ProxyKind::Gateway => Kind::EastWest,
        };
        let (_, own) = proxy.name.split_once('/').unwrap_or(("", &proxy.name));
        let namespace = own.rsplit_once('.').and_then(|(_, namespace)| namespace.parse().ok());
        Self { name: own.to_owned(), namespace, kind, admin: proxy.admin }
    }
}

/// Asks each, so many at a time.
pub async fn envoys(envoys: Vec<Envoy>, asking: Asking) -> Vec<Proxy> {
    let sender = Sender::new();
    let asked = envoys.into_iter().map(|envoy| {
        let sender = sender.clone();
        async move {
            let said = ask(&sender, envoy.admin, asking).await;
            Proxy { name: envoy.name, namespace: envoy.namespace, kind: envoy.kind, said }
        }
    });
    many::bounded(asked, asking.parallel).await
}

async fn ask(sender: &Sender, admin: SocketAddr, asking: Asking) -> Result<Reading, Silence> {
    let get = Get::new("admin", QUERY);
    let answer = match tokio::time::timeout(asking.patience, sender.send(admin, &get)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Silence::Unreachable(format!("{admin}: {}", chain(&error)))),
        Err(_) => {
            return Err(Silence::Unreachable(format!("{admin}: no answer within {:?}", asking.patience)));
        }
    };
    if answer.status != 200 {
        return Err(Silence::Unreachable(format!("{admin} answered {}", answer.status)));
    }
    Ok(Reading::read(&answer.body)?)
}

//! Who must be in a lab for journeys: clients whose proxies do what the cases say of them, and workloads where no one else
//! finds any.

use std::collections::{BTreeMap, BTreeSet};

use policy::Mesh;

use super::Journey;
use crate::case::{Level, Way};
use crate::lab::{Application, Blueprint, Client, Door, Heading, LabService, Manner, Shows};
use crate::stage;

/// What a lab needs for these journeys.
pub fn blueprint<'j, 'm: 'j>(
    mesh: &Mesh,
    journeys: impl Iterator<Item = &'j Journey<'m>> + Clone,
) -> Blueprint {
    let clients = journeys.clone().map(Journey::client);
    let clients = clients.flat_map(|client| client.doors().cloned().collect::<Vec<_>>());
    let mut blueprint = stage::blueprint(mesh, clients);
    let asked: BTreeSet<String> = journeys.clone().map(|journey| journey.service.host()).collect();
    blueprint.services.retain(|service| asked.contains(&service.host()));
    for journey in journeys {
        let host = journey.service.host();
        let destination = journey.destination.name.to_string();
        match blueprint.services.iter_mut().find(|service| service.host() == host) {
            None => blueprint.services.push(unlisted(mesh, journey)),
            Some(known) if !known.clusters.contains(&destination) && !known.strays.contains(&destination) => {
                known.strays.push(destination);
            }
            Some(_) => {}
        }
    }
    blueprint
}

/// A service that `mesh.yaml` does not list, and that may run everywhere.
fn unlisted(mesh: &Mesh, journey: &Journey<'_>) -> LabService {
    LabService {
        name: journey.service.name.to_string(),
        namespace: journey.service.namespace.to_string(),
        port: journey.port,
        clusters: mesh.hosts(&journey.service).iter().map(ToString::to_string).collect(),
        strays: Vec::new(),
        labels: BTreeMap::new(),
        application: Application::Hello,
    }
}

impl Journey<'_> {
    /// Who sends the request, with a proxy that shows what the destination is to know it by, and that goes where the case
    /// says.
    pub fn client(&self) -> Client {
        let mut client = self.call.client();
        let manner = Manner {
            door: client.manner.door,
            shows: self.shows(),
            heading: self.heading(),
            called: self.call.request.service.is_some().then(|| self.called()),
        };
        if self.call.way != Way::Egress {
            client.manner = manner;
            return client;
        }
        let (namespace, account) = (&self.identity.namespace, &self.identity.service_account);
        let mut gateway = stage::client(&self.source.name, namespace, account);
        client.manner.called.clone_from(&manner.called);
        // A host is short in the namespace of its sender, and not in that of the gateway.
        let called = manner.called.or_else(|| Some(self.called()).filter(|(host, _)| !host.contains('.')));
        gateway.manner = Manner { door: Door::Egress, called, ..manner };
        client.manner.heading = Heading::Through(Box::new(gateway));
        client
    }

    fn shows(&self) -> Shows {
        match self.call.level {
            Level::Verified => Shows::Certificate,
            Level::Token => Shows::Token,
            Level::TrustDomain | Level::Claimed => Shows::Tag,
            Level::Unknown => Shows::Nothing,
        }
    }

    fn heading(&self) -> Heading {
        let to = || self.destination.name.to_string();
        match (self.call.misrouted, self.fails_over) {
            (true, _) => Heading::Astray(to()),
            (false, true) => Heading::Failover(to()),
            (false, false) => Heading::Routed,
        }
    }

    /// The host of the request without its port, and the service that it leads to.
    fn called(&self) -> (String, String) {
        let host = &self.call.request.host.value;
        let bare = host.rsplit_once(':').map_or(host.as_str(), |(bare, _port)| bare);
        (bare.to_owned(), self.service.host())
    }
}

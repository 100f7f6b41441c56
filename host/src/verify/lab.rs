//! The same proof between the Envoys of a lab, where no cluster is at hand.

use std::collections::BTreeMap;

use policy::Mesh;

use super::objects::{CALLER, PORT, SERVICE};
use super::{LOST, NAMESPACE, Outcome, expected};
use crate::lab::{Application, Blueprint, Client, Get, Lab, LabError, LabService};
use crate::stage;

/// The lab of a mesh in which every cluster runs the service and calls it, and nothing else runs.
pub fn blueprint(mesh: &Mesh) -> Blueprint {
    let clusters: Vec<String> = mesh.clusters().map(|cluster| cluster.name.to_string()).collect();
    let clients: Vec<Client> = clusters.iter().map(|cluster| client(cluster)).collect();
    let service = LabService {
        name: SERVICE.to_owned(),
        namespace: NAMESPACE.to_owned(),
        port: PORT,
        clusters,
        strays: Vec::new(),
        labels: BTreeMap::new(),
        application: Application::Hello,
    };
    Blueprint { services: vec![service], ..stage::blueprint(mesh, clients) }
}

fn client(cluster: &str) -> Client {
    Client::new(cluster, NAMESPACE, CALLER)
}

/// Calls the service from each cluster, and counts who answers.
pub async fn verify(mesh: &Mesh, lab: &Lab, requests: u32) -> Result<Vec<Outcome>, LabError> {
    let get = Get::new(&format!("{SERVICE}.{NAMESPACE}:{PORT}"), "/hello");
    // In its n-th cluster the service answers as version n.
    let versions: BTreeMap<String, String> = mesh
        .clusters()
        .enumerate()
        .map(|(number, cluster)| (format!("v{}", number.saturating_add(1)), cluster.name.to_string()))
        .collect();
    let mut outcomes = Vec::new();
    for cluster in mesh.clusters() {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..requests {
            let by = match lab.get(&client(cluster.name.as_str()), &get).await {
                Ok(answer) if answer.status == 200 => version(&answer.body).and_then(|one| versions.get(one)),
                Ok(_) | Err(LabError::Request { .. }) => None,
                Err(error) => return Err(error),
            };
            let count = answers.entry(by.cloned().unwrap_or_else(|| LOST.to_owned())).or_default();
            *count = count.saturating_add(1);
        }
        let expected = expected(mesh, &cluster.name);
        // Where pods share a network, the requests themselves went to their addresses.
        outcomes.push(Outcome {
            cluster: cluster.name.clone(),
            expected,
            answers: Ok(answers),
            ways: Ok(Vec::new()),
            left: None,
        });
    }
    Ok(outcomes)
}

/// The version that an answer says: `Hello version: v1, instance: ...`.
fn version(body: &str) -> Option<&str> {
    body.split("version: ").nth(1)?.split([',', '\n', ' ']).next()
}

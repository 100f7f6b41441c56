//! What others have to do, waited for: controllers, load balancers, GitOps.

use std::future::Future;
use std::time::Duration;

use policy::mesh::GatewayService;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Trouble, Work};
use crate::kube::{ClusterError, Id, Kind, Problem};
use crate::manifest::ISTIO_NAMESPACE;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);

/// The label of a network, by which istiod knows the Service of a gateway.
const NETWORK: &str = "topology.istio.io/network";

impl Work {
    /// Waits until something is so. What is waited for is said once, and so it is if it does not come.
    async fn until<T, F>(&self, what: &str, mut look: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<Option<T>, Trouble>>,
    {
        let deadline = Instant::now() + self.how.patience;
        let mut told = false;
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if !told {
                told = self.how.tell.send(format!("{}: waits for {what}", self.cluster.name)).is_ok();
            }
            if Instant::now() >= deadline {
                return Err(Trouble::TimedOut { what: what.to_owned(), after: self.how.patience });
            }
            sleep(TICK.min(self.how.patience)).await;
        }
    }

    /// Waits until the server knows the kind of an object, and its namespace is there.
    pub(super) async fn served(&self, id: &Id) -> Result<(), Trouble> {
        self.until(&format!("the kind {}", id.kind), || async {
            match self.at.get(id).await {
                Err(ClusterError { problem, .. }) if matches!(*problem, Problem::NoSuchKind { .. }) => {
                    Ok(None)
                }
                Ok(_) => Ok(Some(())),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Waits until an istiod is ready.
    pub(super) async fn istiod(&self) -> Result<(), Trouble> {
        let what = format!("a Deployment of istiod in {ISTIO_NAMESPACE} to be ready");
        self.until(&what, || async {
            let all = self.deployments().await?;
            let mut istiods = all.iter().filter(|one| has(one, "/metadata/labels", "app", "istiod"));
            Ok(istiods.any(is_ready).then_some(()))
        })
        .await
    }

    /// Waits until the gateway has the address that the others are told, and its pods are ready.
    pub(super) async fn gateway(&self) -> Result<(), Trouble> {
        let Some(gateway) = &self.cluster.gateway else { return Ok(()) };
        let what = format!(
            "a Service of {ISTIO_NAMESPACE} with the label {NETWORK}={} and port {}",
            self.cluster.network, gateway.port
        );
        let service = self.until(&what, || async { self.service(gateway.port).await }).await?;
        let name = service.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if gateway.service != GatewayService::NodePort {
            let what = format!("Service {ISTIO_NAMESPACE}/{name} to get an address");
            let found = self
                .until(&what, || async {
                    let found = self.service(gateway.port).await?.as_ref().map(addresses).unwrap_or_default();
                    Ok((!found.is_empty()).then_some(found))
                })
                .await?;
            if !found.contains(&gateway.address) {
                return Err(Trouble::Elsewhere { found, wanted: gateway.address.clone() });
            }
        }
        let what = format!("the pods behind Service {ISTIO_NAMESPACE}/{name} to be ready");
        self.until(&what, || async {
            let behind = |deployment: &&Value| selects(&service, deployment);
            let all = self.deployments().await?;
            Ok(all.iter().filter(behind).any(is_ready).then_some(()))
        })
        .await
    }

    async fn deployments(&self) -> Result<Vec<Value>, Trouble> {
        Ok(self.at.survey(&Kind::new("apps/v1", "Deployment"), Some(ISTIO_NAMESPACE), None).await?)
    }

    /// The Service that istiod takes for the way into the cluster's network.
    async fn service(&self, port: u16) -> Result<Option<Value>, Trouble> {
        let services = self.at.survey(&Kind::new("v1", "Service"), Some(ISTIO_NAMESPACE), None).await?;
        let listens = |service: &Value| {
            let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
            let is = |one: &Value, key: &str| one.get(key).and_then(Value::as_u64) == Some(u64::from(port));
            ports.into_iter().any(|one| is(one, "port") || is(one, "nodePort"))
        };
        let network = self.cluster.network.as_str();
        let is_way = |service: &Value| {
            has(service, "/metadata/labels", NETWORK, network)
                && (listens(service) || has_any(service, "networking.istio.io/gatewayPort"))
        };
        Ok(services.into_iter().find(is_way))
    }
}

fn has(object: &Value, path: &str, key: &str, wanted: &str) -> bool {
    let found = object.pointer(path).and_then(|map| map.get(key));
    found.and_then(Value::as_str) == Some(wanted)
}

fn has_any(object: &Value, label: &str) -> bool {
    object.pointer("/metadata/labels").is_some_and(|labels| labels.get(label).is_some())
}

/// Whether the pods of a Deployment are those that a Service selects.
fn selects(service: &Value, deployment: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|selector| {
        let labels = "/spec/template/metadata/labels";
        selector.iter().all(|(key, value)| has(deployment, labels, key, value.as_str().unwrap_or_default()))
    })
}

/// Whether the Deployment as it is said now has a pod that is ready.
fn is_ready(deployment: &Value) -> bool {
    let number = |path: &str| deployment.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    number("/status/readyReplicas") > 0
        && number("/status/observedGeneration") >= number("/metadata/generation")
}

/// Where the load balancer, or who made the Service, says that it is.
fn addresses(service: &Value) -> Vec<String> {
    let list = |path: &str| service.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let given = list("/status/loadBalancer/ingress")
        .flat_map(|one| ["ip", "hostname"].map(|key| one.get(key).and_then(Value::as_str)))
        .flatten();
    let said = list("/spec/externalIPs").filter_map(Value::as_str);
    said.chain(given).map(str::to_owned).collect()
}

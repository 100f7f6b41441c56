//! The walk through the lab's Envoys: what came of it is read from their own access logs.

use std::time::{Duration, Instant};

use policy::name::Service;
use serde_json::Value;

use super::{Journey, Outcome, Stop, Tags};
use crate::lab::{Get, Lab, LabError, Proxy, ProxyKind};
use crate::stage;

/// How often a request is sent again because the load balancer chose another cluster.
const TRIES: u32 = 20;
/// How long an access log may take to show a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Why a walk through Envoys came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// The lab failed.
    #[error("the lab failed")]
    Lab(#[from] LabError),
    /// The request never went to the cluster that was wanted.
    #[error("{TRIES} requests to {service} all went elsewhere than to {cluster}")]
    Elsewhere {
        /// The service.
        service: String,
        /// The cluster.
        cluster: String,
    },
    /// A log line that never came.
    #[error("{proxy} logged nothing of {what} within {} s", PATIENCE.as_secs())]
    Silent {
        /// Whose log.
        proxy: String,
        /// What was looked for.
        what: String,
    },
}

/// Walks one journey; `number` makes its request's id one of its own.
pub async fn walk(lab: &Lab, journey: &Journey<'_>, number: usize) -> Result<Outcome, EnvoyError> {
    let from = &journey.call.from;
    let client = stage::client(&from.cluster.value, &from.namespace, &from.service_account);
    let sidecar = format!("{}/{}.{}", client.cluster, client.service_account, client.namespace);
    let request = &journey.call.request;
    for round in 0..TRIES {
        let id = format!("walk-{number}-{round}");
        let mut get = Get::new(&request.host.value, &request.path).header("x-request-id", &id);
        get.method.clone_from(&request.method);
        for (name, value) in &request.headers {
            get = get.header(name, value);
        }
        let gates_before = closings(lab, journey)?.len();
        let answer = lab.get(&client, &get).await?;
        let sent = logged(lab, &sidecar, &id, |line| text(line, "request_id") == Some(&id)).await?;
        let Some(reached) = text(&sent, "upstream_host").and_then(|host| proxy_at(lab, host)) else {
            return Ok(outcome(&sent, Stop::Source, answer.status)); // nothing was chosen: it ended here
        };
        if reached.cluster != journey.destination.name.as_str() {
            continue;
        }
        // 503 is what the client's sidecar makes of a gateway that closes.
        if reached.kind == ProxyKind::Gateway && answer.status == 503 {
            let line = closing(lab, journey, gates_before).await?;
            let closed = outcome(&line, Stop::Gateway, answer.status);
            return Ok(Outcome { shadow: dissent(&sent).or(closed.shadow.clone()), ..closed });
        }
        let server = server(lab, journey)?;
        let line = logged(lab, &server, &id, |line| text(line, "request_id") == Some(&id)).await?;
        let arrived = outcome(&line, Stop::Destination, answer.status);
        // What a gateway in shadow would have closed it says in its log of connections, which name no request.
        let shadow = dissent(&sent).or(arrived.shadow.clone());
        let header =
            |name: &str| answer.header(name).filter(|value| !matches!(*value, "" | "-")).map(str::to_owned);
        let tags =
            Tags { cluster: header("x-app-saw-source-cluster"), network: header("x-app-saw-source-network") };
        return Ok(Outcome {
            shadow,
            tags: (arrived.verdict == "allow").then_some(tags),
            served_by: header("x-destination-cluster"),
            breach: text(&sent, "breach").map(str::to_owned),
            ..arrived
        });
    }
    let (service, cluster) = (journey.service.to_string(), journey.destination.name.to_string());
    Err(EnvoyError::Elsewhere { service, cluster })
}

fn text<'l>(line: &'l Value, key: &str) -> Option<&'l str> {
    line.get(key).and_then(Value::as_str).filter(|text| *text != "-")
}

fn outcome(line: &Value, at: Stop, status: u16) -> Outcome {
    let owned = |key: &str| text(line, key).map(ToOwned::to_owned);
    super::outcome(owned, at, status)
}

fn dissent(line: &Value) -> Option<(String, String)> {
    super::dissent(|key: &str| text(line, key).map(ToOwned::to_owned))
}

/// The proxy whose address an access log names.
fn proxy_at<'l>(lab: &'l Lab, address: &str) -> Option<&'l Proxy> {
    let address: std::net::SocketAddr = address.parse().ok()?;
    lab.proxies().find(|proxy| proxy.admin.ip() == address.ip())
}

/// The sidecar that answers for the service in its cluster.
fn server(lab: &Lab, journey: &Journey<'_>) -> Result<String, LabError> {
    let (cluster, service) = (journey.destination.name.as_str(), &journey.service);
    let start = format!("{cluster}/{}-v", service.name);
    let end = format!(".{}", service.namespace);
    let found = lab.proxies().find(|proxy| proxy.name.starts_with(&start) && proxy.name.ends_with(&end));
    found.map(|proxy| proxy.name.clone()).ok_or(LabError::Unknown { name: format!("{start}*{end}") })
}

fn gateway(lab: &Lab, journey: &Journey<'_>) -> Option<String> {
    let here = |proxy: &&Proxy| {
        proxy.kind == ProxyKind::Gateway && proxy.cluster == journey.destination.name.as_str()
    };
    lab.proxies().find(here).map(|proxy| proxy.name.clone())
}

/// What the gateway has logged of connections for the service that the filter closed.
fn closings(lab: &Lab, journey: &Journey<'_>) -> Result<Vec<Value>, LabError> {
    let Some(gateway) = gateway(lab, journey) else { return Ok(Vec::new()) };
    let mut log = lab.access_log(&gateway)?;
    log.retain(|line| {
        let sni = text(line, "requested_server_name").and_then(|sni| Service::from_sni(sni).ok());
        let is_ours =
            sni.is_some_and(|(service, port)| service == journey.service && port.number() == journey.port);
        is_ours && text(line, "verdict") == Some("deny")
    });
    Ok(log)
}

async fn closing(lab: &Lab, journey: &Journey<'_>, before: usize) -> Result<Value, EnvoyError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = closings(lab, journey)?.into_iter().nth(before) {
            return Ok(line);
        }
        if Instant::now() > deadline {
            let proxy = gateway(lab, journey).unwrap_or_default();
            return Err(EnvoyError::Silent {
                proxy,
                what: format!("a closed connection for {}", journey.sni()),
            });
        }
        tokio::time::sleep(TICK).await;
    }
}

/// The line of a proxy's access log, once it is there.
async fn logged(
    lab: &Lab,
    proxy: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<Value, EnvoyError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = lab.access_log(proxy)?.into_iter().find(|line| is(line)) {
            return Ok(line);
        }
        if Instant::now() > deadline {
            return Err(EnvoyError::Silent { proxy: proxy.to_owned(), what: what.to_owned() });
        }
        tokio::time::sleep(TICK).await;
    }
}

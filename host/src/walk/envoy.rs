//! The walk through the lab's Envoys: what came of it is read from their own access logs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use policy::name::Service;
use serde_json::Value;

use super::{Journey, Outcome, Stop, Tags};
use crate::lab::{Answer, Get, Lab, LabError, Proxy, ProxyKind};

/// How often a request is sent again because the load balancer, or a split, chose another cluster: more than a share of
/// one in a hundred needs.
const TRIES: u32 = 2_000;
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
    let client = journey.client();
    let doors = client.doors().map(|door| lab.proxy_of(door)).collect::<Result<Vec<_>, _>>()?;
    for round in 0..TRIES {
        let id = format!("walk-{number}-{round}-");
        let gates_before = closings(lab, journey, &doors)?.len();
        let answer = lab.get(&client, &request(journey, &id)).await?;
        if answered_by(&answer, journey).is_some_and(|cluster| cluster != journey.destination.name.as_str()) {
            continue;
        }
        let left = match depart(lab, &doors, (&id, answer.status)).await? {
            Departed::Refused(outcome) => return Ok(*outcome),
            Departed::To(left) => left,
        };
        if left.reached.cluster != journey.destination.name.as_str() {
            continue;
        }
        let mut shadow = left.shadow.clone();
        if left.reached.kind == ProxyKind::Gateway {
            // 503 is what the client's sidecar makes of a gateway that closes.
            if answer.status == 503 {
                let line = closing(lab, journey, (&doors, gates_before)).await?;
                let closed = outcome(&line, Stop::Gateway, answer.status);
                return Ok(Outcome { shadow: shadow.or(closed.shadow.clone()), ..closed });
            }
            shadow = shadow.or(passed(lab, &left).await?);
        }
        let line = logged(lab, &server(lab, journey)?, &id, |_| true).await?;
        let arrived = outcome(&line, Stop::Destination, answer.status);
        let header =
            |name: &str| answer.header(name).filter(|value| !matches!(*value, "" | "-")).map(str::to_owned);
        let tags =
            Tags { cluster: header("x-app-saw-source-cluster"), network: header("x-app-saw-source-network") };
        return Ok(Outcome {
            shadow: shadow.or(arrived.shadow.clone()),
            tags: (arrived.verdict == "allow").then_some(tags),
            // An ingress gateway tells nobody outside.
            served_by: text(&line, "destination_cluster_header").map(str::to_owned),
            breach: left.breach,
            ..arrived
        });
    }
    let (service, cluster) = (journey.service.to_string(), journey.destination.name.to_string());
    Err(EnvoyError::Elsewhere { service, cluster })
}

/// The request, as the application sends it.
fn request(journey: &Journey<'_>, id: &str) -> Get {
    let request = &journey.call.request;
    let mut get = Get::new(&request.host.value, &request.path).header("x-request-id", id);
    get.method.clone_from(&request.method);
    request.headers.iter().fold(get, |get, (name, value)| get.header(name, value))
}

/// The cluster that an answer is from, as far as it says so itself: then no log need be read.
fn answered_by<'a>(answer: &'a Answer, journey: &Journey<'_>) -> Option<&'a str> {
    answer.header("x-destination-cluster").or_else(|| {
        let (_, version) =
            answer.body.trim_end().split_once(&format!("instance: {}-v", journey.service.name))?;
        version.split_once('-').map(|(_, cluster)| cluster)
    })
}

/// How a request left the proxies of its source.
enum Departed<'l> {
    /// Not at all.
    Refused(Box<Outcome>),
    /// For another proxy.
    To(Left<'l>),
}

/// Where a request went to, and what was seen of it up to there.
struct Left<'l> {
    reached: &'l Proxy,
    /// The address that the connection there is from.
    local: String,
    shadow: Option<(String, String)>,
    breach: Option<String>,
}

async fn depart<'l>(
    lab: &'l Lab,
    doors: &[&'l Proxy],
    (id, status): (&str, u16),
) -> Result<Departed<'l>, EnvoyError> {
    let (mut shadow, mut breach, mut left) = (None, None, None);
    for door in doors {
        let sent = logged(lab, &door.name, id, |_| true).await?;
        shadow = shadow.or(dissent(&sent));
        breach = text(&sent, "breach").map(str::to_owned).or(breach);
        let Some(reached) = text(&sent, "upstream_host").and_then(|host| proxy_at(lab, host)) else {
            // Nothing was chosen: it ended here.
            let refused = outcome(&sent, Stop::Source, status);
            return Ok(Departed::Refused(Box::new(Outcome { shadow, ..refused })));
        };
        left = Some((reached, text(&sent, "upstream_local_address").unwrap_or_default().to_owned()));
    }
    let (reached, local) =
        left.ok_or_else(|| LabError::Unknown { name: "proxy that it leaves by".to_owned() })?;
    Ok(Departed::To(Left { reached, local, shadow, breach }))
}

/// What the policies in shadow would have done at the gateway that a request passed: it says so in the line of the
/// connection, which is there as soon as that is passed on.
async fn passed(lab: &Lab, left: &Left<'_>) -> Result<Option<(String, String)>, EnvoyError> {
    let is_it = |line: &Value| {
        text(line, "kind") == Some("TcpUpstreamConnected")
            && text(line, "downstream_remote_address") == Some(&left.local)
    };
    Ok(dissent(&logged(lab, &left.reached.name, &left.local, is_it).await?))
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
    let address: SocketAddr = address.parse().ok()?;
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

/// What the gateway has logged of connections for the service, from the last of these proxies, that the filter closed.
fn closings(lab: &Lab, journey: &Journey<'_>, doors: &[&Proxy]) -> Result<Vec<Value>, LabError> {
    let (Some(gateway), Some(door)) = (gateway(lab, journey), doors.last()) else { return Ok(Vec::new()) };
    let mut log = lab.logged(&gateway, &journey.service.host())?;
    log.retain(|line| {
        let sni = text(line, "requested_server_name").and_then(|sni| Service::from_sni(sni).ok());
        let is_ours =
            sni.is_some_and(|(service, port)| service == journey.service && port.number() == journey.port);
        let from = text(line, "downstream_remote_address").and_then(|from| from.parse::<SocketAddr>().ok());
        is_ours
            && from.is_some_and(|from| from.ip() == door.admin.ip())
            && text(line, "verdict") == Some("deny")
    });
    Ok(log)
}

async fn closing(
    lab: &Lab,
    journey: &Journey<'_>,
    (doors, before): (&[&Proxy], usize),
) -> Result<Value, EnvoyError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = closings(lab, journey, doors)?.into_iter().nth(before) {
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

/// The line of a proxy's access log that has this text and is the one, once it is there.
async fn logged(
    lab: &Lab,
    proxy: &str,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<Value, EnvoyError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = lab.logged(proxy, what)?.into_iter().find(|line| is(line)) {
            return Ok(line);
        }
        if Instant::now() > deadline {
            return Err(EnvoyError::Silent { proxy: proxy.to_owned(), what: what.to_owned() });
        }
        tokio::time::sleep(TICK).await;
    }
}

//! `clusters.looked_at`: what it takes to look at very many clusters.
//!
//! One real API server stands for all, under a context for each: every cluster is connected to, listed and has its
//! proxies asked. What those answer is fixed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus::kube::{Kubeconfig, many};
use isthmus::proxies::Asking;
use isthmus::rollout::Target;
use isthmus::status::{self, Look};
use isthmus_tests::cluster::{Clusters, Pod, Pods};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Outcome;
use super::figure::Report;
use super::ground::{Missing, cpu};
use super::world::world;

/// How many clusters are looked at, how many proxies each has, and how many are asked at a time.
const LOOKED_AT: usize = 200;
const PROXIES: usize = 5;
const PARALLEL: usize = 20;

/// What a proxy says.
const METRICS: &str = "envoy_server_uptime{} 90\nenvoy_wasm_envoy_wasm_runtime_v8_active{} 3\ndirection___inbound___isthmus_plan_info{} 157410554525162\n";

/// `clusters.looked_at`
pub(super) fn looked_at(report: &mut Report) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(look_at(report))
}

async fn look_at(report: &mut Report) -> Outcome<()> {
    let missing = || Missing::of("no API server here");
    let clusters = Clusters::start(&["one"]).await.ok_or_else(missing)?;
    let mut pods = Pods::of(clusters.client("one").await).ok_or_else(missing)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let admin = listener.local_addr()?;
    let mut answering = JoinSet::new();
    answering.spawn(answer(listener));
    for number in 0..PROXIES {
        add(&mut pods, &format!("p{number}"), admin).await;
    }
    let (mesh, policies) = world(LOOKED_AT, 100)?;
    let (plans, findings) = policy::compile(&mesh, &policies);
    let plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    let kubeconfig = Arc::new(Kubeconfig::read(Some(&clusters.kubeconfig()), None, None)?);
    let (begun, worked) = (Instant::now(), cpu(std::process::id())?);
    let connecting = mesh.clusters().map(|cluster| {
        let (name, kubeconfig) = (cluster.name.clone(), Arc::clone(&kubeconfig));
        async move {
            let cluster = kubeconfig.cluster("one", Duration::from_secs(60)).await;
            (name, cluster.map(|cluster| Target::Cluster(Arc::new(cluster))))
        }
    });
    let targets = many::bounded(connecting.collect::<Vec<_>>(), PARALLEL).await.into_iter().collect();
    let asking = Some(Asking { patience: Duration::from_secs(60), parallel: PROXIES });
    let look = Look { targets, envoys: BTreeMap::new(), asking, parallel: PARALLEL };
    let statuses = status::look(&mesh, &plans, look).await?;
    let (took, worked) = (begun.elapsed(), cpu(std::process::id())? - worked);
    answering.shutdown().await;
    let answered = statuses.iter().filter_map(|status| status.found.as_ref().ok()?.running().ok());
    let answered: usize = answered.map(|(_, all)| all).sum();
    if answered != LOOKED_AT * PROXIES {
        return Err(format!("{answered} proxies answered").into());
    }
    report.at_most("status.clusters200_seconds", took.as_secs_f64(), "s", 10.0);
    // The one server that plays them all works on the same cores.
    report.put("status.clusters200_own_cpu_seconds", worked as f64 / 1e9, "s");
    Ok(())
}

async fn add(pods: &mut Pods, name: &str, admin: SocketAddr) {
    pods.add(Pod { namespace: "default", name, role: "sidecar", istio: None, admin }).await;
}

/// Says the same to everybody.
async fn answer(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut asked = [0; 4096];
            let length = METRICS.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{METRICS}");
            let read = stream.read(&mut asked).await;
            read.is_ok() && stream.write_all(answer.as_bytes()).await.is_ok()
        });
    }
}

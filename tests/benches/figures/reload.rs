//! `reload`: requests that fail while plans change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Outcome;
use super::figure::Report;
use super::load::{Connection, request};
use super::path::{Running, hello, policies};

const CHANGES: usize = 100;
/// A change is in force in a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// The policy with one path more in every other plan, and another exposure with it.
fn plan(is_wide: bool) -> String {
    let (path, port) = if is_wide { (", /other", ", 5001") } else { ("", "") };
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: hello, namespace: sample}}\n\
         spec:\n  services: [helloworld]\n  exposure: {{to: {{networks: [network1]}}, ports: [5000{port}]}}\n  \
         access: {{allow: [{{name: sleepers, from: [{{clusters: [cluster1], namespaces: [sample]}}], \
         to: [{{methods: [GET], paths: [/hello{path}]}}]}}]}}\n"
    )
}

/// Changes plans under load, each when the one before is in force.
pub(super) fn changes(report: &mut Report) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let running = Running::start(dir.path(), Some(&plan(false)))?;
    let is_over = AtomicBool::new(false);
    let (changed, counts) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&running, &is_over).map_err(|error| error.to_string()));
        let changed = change(&running);
        is_over.store(true, Ordering::Relaxed);
        (changed, load.join())
    });
    changed?;
    let Ok(counts) = counts else { return Err("the load broke off".into()) };
    let (sent, failed) = counts?;
    running.down()?;
    report.put("reload.changes", CHANGES as f64, "");
    report.put("reload.requests", sent as f64, "");
    report.at_most("reload.failed_requests", failed as f64, "", 0.0);
    Ok(())
}

fn change(running: &Running) -> Outcome<()> {
    let mut connections = running.connect()?;
    let other = request("helloworld.sample.svc.cluster.local:5000", "/other", "bench", &[]);
    for round in 0..CHANGES {
        let is_wide = round % 2 == 0;
        running.stage.roll_out(&policies(running.stage.mesh(), &plan(is_wide))?)?;
        let deadline = Instant::now() + PATIENCE;
        // Of two requests in a row one goes to the other cluster; others come in between, so a few more are asked.
        loop {
            let mut refused = 0;
            for connection in connections.iter_mut() {
                refused += usize::from(connection.ask(&other)?.status == 403);
            }
            if (refused == 0) == is_wide {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("change {round} is not in force: {refused} are refused").into());
            }
        }
    }
    Ok(())
}

/// Sends until it is over; how many requests there were and how many of them failed.
fn load(running: &Running, is_over: &AtomicBool) -> Outcome<(u64, u64)> {
    let request = hello();
    let mut connections = running.connect()?;
    let (mut sent, mut failed) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let under_way: Vec<_> = connections.iter_mut().map(|connection| connection.send(&request)).collect();
        for (connection, was_sent) in connections.iter_mut().zip(under_way) {
            sent += 1;
            let answer = was_sent.and_then(|()| connection.receive());
            if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                failed += 1;
                if failed == 1 {
                    eprintln!("the first request that failed: {answer:?}");
                }
            }
            if answer.is_err() {
                *connection = Connection::open(running.address()?, None)?;
            }
        }
    }
    Ok((sent, failed))
}

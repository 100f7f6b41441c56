//! What listens behind pods is anybody's: whatever it says, and whether it ever ends, gates and `isthmus status` come to an end
//! and say what they saw.

use std::net::SocketAddr;
use std::time::Duration;

use isthmus_tests::cluster::{Pod, Pods};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::rollout::{Ground, SHORT, code, stderr, stdout};

/// How something answers.
#[derive(Clone, Copy)]
struct Talk {
    name: &'static str,
    /// What it says first.
    head: &'static str,
    /// What it says from then on, again and again.
    more: &'static [u8],
    /// How long it waits in between.
    pause: Duration,
    /// What is told of it.
    told: &'static str,
}

const NEVER: Duration = Duration::from_secs(3600);
const LATE: &str = "no answer within ";

const TALKS: [Talk; 8] = [
    Talk {
        name: "endless",
        head: "HTTP/1.1 200 OK\r\n\r\n",
        more: &[b'a'; 1 << 16],
        pause: Duration::ZERO,
        told: "it is of more than 33554432 bytes",
    },
    Talk {
        name: "slow",
        head: "HTTP/1.1 200 OK\r\n\r\n",
        more: b"a",
        pause: Duration::from_millis(100),
        told: LATE,
    },
    Talk { name: "mute", head: "", more: b"", pause: NEVER, told: LATE },
    Talk {
        name: "greedy",
        head: "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        more: b"",
        pause: NEVER,
        told: LATE,
    },
    Talk {
        name: "html",
        head: "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
        more: b"",
        pause: NEVER,
        told: "line 1 is not of the text format of Prometheus",
    },
    Talk {
        name: "binary",
        head: "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
        more: b"\0\xff\xfe",
        pause: NEVER,
        told: "invalid utf-8",
    },
    Talk {
        name: "loud",
        head: "HTTP/1.1 503 No\r\ncontent-length: 11\r\n\r\n\u{1b}[2Jall well",
        more: b"",
        pause: NEVER,
        told: "",
    },
    Talk {
        name: "liar",
        head: "HTTP/1.1 403 No\r\ncontent-type: application/json\r\ncontent-length: 77\r\n\r\n{\"kind\": \"Status\", \"reason\": \"Forbidden\", \"code\": 403, \"message\": \"all well\"}",
        more: b"",
        pause: NEVER,
        told: "",
    },
];

async fn answer(mut stream: TcpStream, talk: Talk) -> std::io::Result<()> {
    // What is asked is nothing to it.
    let _asked = stream.read(&mut [0; 4096]).await?;
    stream.write_all(talk.head.as_bytes()).await?;
    loop {
        stream.write_all(talk.more).await?;
        tokio::time::sleep(talk.pause).await;
    }
}

/// Something that answers so, for as long as the tasks last.
async fn listen(tasks: &mut JoinSet<()>, talk: Talk) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            connections.spawn(answer(stream, talk));
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_listens_behind_pods_neither_holds_a_gate_for_ever_nor_opens_it() {
    let Some(ground) = Ground::start().await else { return };
    let Some(mut pods) = Pods::of(ground.clusters.client("cluster1").await) else { return };
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let mut tasks = JoinSet::new();
    for talk in TALKS {
        let admin = listen(&mut tasks, talk).await;
        pods.add(Pod { namespace: "payments", name: talk.name, role: "sidecar", istio: None, admin }).await;
    }
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    let path = ground.mesh.path().join("strategy.yaml");
    let text = "apiVersion: isthmus.dev/v1alpha1\nkind: RolloutStrategy\nmetadata: {name: s}\nspec:\n  waves: [{name: all, clusters: ['*'], bake: 1s}]\n  gates: {applied: 2s, denials: 1%, traps: 0}\n";
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    for more in [["--lease=3", "--wait=2s"], ["--strategy", &path]] {
        let output = ground.roll(&more).await;
        let told = stdout(&output) + &stderr(&output);
        assert_eq!(code(&output), Some(1), "{told}");
        let why = "cluster1: proxies: 0 of 8 proxies run the plan, 8 do not answer; not payments/";
        assert!(told.contains(why) && told.contains("revision 2: failed"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }
    let output = ground.run("status", &["--all", "--proxy-timeout", "3"]).await;
    let told = stdout(&output) + &stderr(&output);
    assert_eq!(code(&output), Some(1), "{told}");
    for Talk { name, told: why, .. } in TALKS {
        let line = format!("cluster1: payments/{name} does not say what it runs: ");
        let is_told = |found: &str| found.starts_with(&line) && found.contains(why);
        assert!(told.lines().any(is_told), "{name}: {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
}

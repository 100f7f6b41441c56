//! What can go wrong in the middle of a rollout, one after the other, against two real API servers: what is told then, what
//! stands in the clusters, and how it goes on.

use hyper::StatusCode;
use isthmus_tests::cluster::{Fault, Somebody, Span};
use kube::Client;
use serde_json::{Value, json};

use super::rollout::{Ground, NAMES, SHORT, between, code, stderr, stdout};
use super::{account, get, post};

/// A fault of the cluster whose wave is the second, and what comes of it.
struct Case {
    name: &'static str,
    /// From which request on.
    at: &'static str,
    span: Span,
    fault: Fault,
    /// The exit code of the rollout.
    code: i32,
    /// What the record says then.
    end: &'static str,
    /// What is told of it, by the rollout and by whoever asks later.
    told: &'static str,
}

/// In the middle of a cluster's filters: one is written, and two are not.
const FILTER: &str =
    "PATCH /apis/extensions.istio.io/v1alpha1/namespaces/istio-system/wasmplugins/isthmus-inbound";

fn answer(code: StatusCode, text: &'static str) -> Fault {
    Fault::Answer(code, None, text)
}

fn cases(nobody: Client, weak: Client) -> Vec<Case> {
    let each = |name, fault, told| Case {
        name,
        at: FILTER,
        span: Span::Each,
        fault,
        code: 4,
        end: "incomplete",
        told,
    };
    let onward = |name, fault, told| Case { span: Span::Onward, ..each(name, fault, told) };
    vec![
        onward("a server that goes", Fault::Cut, "the API server cannot be reached"),
        onward("a server that says nothing any more", Fault::Hang, "no answer within 3s"),
        each(
            "an object that is changed by others all the time",
            answer(StatusCode::CONFLICT, CHANGED),
            "it has changed in the meantime (the object has been modified)",
        ),
        each(
            "too much to do",
            Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(0), "later"),
            "the API server has too much to do and asks to wait for 0ns",
        ),
        each(
            "too much to do for long",
            Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(600), "later"),
            "the API server has too much to do and asks to wait for 600s",
        ),
        each(
            "a server that fails",
            answer(StatusCode::INTERNAL_SERVER_ERROR, "etcd has lost its mind"),
            "the API server failed with 500: etcd has lost its mind",
        ),
        each(
            "an object that is too large",
            answer(StatusCode::PAYLOAD_TOO_LARGE, "limit is 3145728"),
            "which is too large (limit is 3145728)",
        ),
        onward(
            "a token that has expired",
            Fault::As(Somebody(nobody)),
            "the API server does not accept the credentials (Unauthorized): log in again",
        ),
        onward(
            "rights that were taken away",
            Fault::As(Somebody(weak)),
            "system:serviceaccount:weak:weak may not patch wasmplugins.extensions.istio.io in namespace istio-system: grant the verb with RBAC",
        ),
        each(
            "a kind that is there no more",
            answer(StatusCode::NOT_FOUND, "404 page not found\n"),
            "the cluster knows no WasmPlugin of extensions.istio.io/v1alpha1: install Istio's definitions there",
        ),
        Case { code: 3, end: "under way", ..each("a record that somebody else writes", Fault::Pass, "") }
            .about(
                "PATCH /api/v1/namespaces/istio-system/configmaps/isthmus-rollout",
                answer(StatusCode::CONFLICT, CHANGED),
                "cluster1: somebody else has taken over here",
            ),
    ]
}

impl Case {
    fn about(self, at: &'static str, fault: Fault, told: &'static str) -> Self {
        Self { at, fault, told, ..self }
    }
}

const CHANGED: &str =
    r#"{"kind": "Status", "reason": "Conflict", "message": "the object has been modified", "code": 409}"#;

/// What others have in a cluster, beside ours and in the same namespaces.
const THEIRS: [&str; 2] = [
    "/apis/networking.istio.io/v1/namespaces/sample/destinationrules",
    "/api/v1/namespaces/istio-system/configmaps",
];

impl Ground {
    async fn put_theirs(&self) {
        for name in NAMES {
            let client = self.clusters.client(name).await;
            let metadata = json!({"name": "theirs"});
            let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata, "spec": {"host": "theirs"}});
            post(&client, THEIRS[0], &rule).await;
            post(&client, THEIRS[1], &json!({"metadata": metadata, "data": {"a": "b"}})).await;
        }
    }

    async fn theirs(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for name in NAMES {
            let client = self.clusters.client(name).await;
            for path in THEIRS {
                found.push(get(&client, &format!("{path}/theirs")).await);
            }
        }
        found
    }
}

/// What a cluster says, among what both say.
fn of<'s>(said: &'s [String], cluster: &str) -> Vec<&'s String> {
    said.iter().filter(|line| line.starts_with(&format!("{cluster}/"))).collect()
}

#[tokio::test]
async fn whatever_goes_wrong_in_the_middle_of_a_wave_is_told_and_the_rollout_goes_on_to_its_end() {
    let Some(mut ground) = Ground::start().await else { return };
    let [one, nobody] = ["cluster1", "cluster1"].map(|name| ground.clusters.server(name).url());
    let token = account(&ground.clusters.client("cluster1").await, "weak").await;
    let somebody = async |url: &str, token: &str| {
        let kubeconfig = ground.clusters.kubeconfig_of("cluster1", url, token);
        isthmus_tests::cluster::client(&kubeconfig, "cluster1").await
    };
    let cases = cases(somebody(&nobody, "no-token-at-all").await, somebody(&one, &token).await);
    let proxies = between(&mut ground).await;
    ground.put_theirs().await;
    let theirs = ground.theirs().await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let first = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let second = ground.says().await;
    let canary = ground.canary("0s", "");
    let canary: Vec<&str> = canary.iter().map(String::as_str).chain(["--timeout", "3"]).collect();
    for Case { name, at, span, fault, code: wanted, end, told } in cases {
        let back = ground.run("rollout rollback", &SHORT).await;
        assert_eq!((code(&back), ground.says().await == first), (Some(0), true), "{name}: {}", stderr(&back));
        proxies[0].at(at, span, fault);
        let output = ground.roll(&canary).await;
        assert_eq!(code(&output), Some(wanted), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(told), "{name}: {}", stderr(&output));

        // Of each object the one or the other, whole; and the wave before is where it should be.
        let now = ground.says().await;
        assert!(now.iter().all(|line| first.contains(line) || second.contains(line)), "{name}: {now:#?}");
        if wanted == 4 {
            assert_eq!(of(&now, "cluster2"), of(&second, "cluster2"), "{name}");
            assert_ne!(of(&now, "cluster1"), of(&first, "cluster1"), "{name}: it is in the middle");
            assert_ne!(of(&now, "cluster1"), of(&second, "cluster1"), "{name}: it is in the middle");
        }
        // Who asks later is told the same, while it lasts and after it.
        for lasts in [true, false] {
            if !lasts {
                proxies[0].clear();
            }
            let standing = ground.standing().await;
            assert_eq!(standing["end"], end, "{name}: {standing:#}");
            let behind = &standing["record"]["state"]["clusters"]["cluster1"]["behind"];
            assert_eq!(
                behind.as_str().is_some_and(|why| why.contains(told)),
                wanted == 4,
                "{name}: {behind}"
            );
        }

        let output = ground.run("rollout resume", &SHORT).await;
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        assert_eq!(ground.says().await, second, "{name}: {}", stdout(&output));
        assert_eq!(ground.standing().await["end"], "complete", "{name}");
        assert_eq!(ground.theirs().await, theirs, "{name}: nothing of others is touched");
    }
}

//! What runs for the proof.

use policy::name::ClusterName;
use serde_json::{Value, json};

use super::{LOST, NAMESPACE, What};
use crate::kube::{Id, Kind};

/// The service, and the Deployment behind it.
pub(super) const SERVICE: &str = "helloworld";

/// The pod that calls it, and its container.
pub(super) const CALLER: &str = "caller";

pub(super) fn id(version: &str, kind: &str, name: &str) -> Id {
    Id { kind: Kind::new(version, kind), namespace: Some(NAMESPACE.to_owned()), name: name.to_owned() }
}

pub(super) fn namespace_id() -> Id {
    Id { kind: Kind::new("v1", "Namespace"), namespace: None, name: NAMESPACE.to_owned() }
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "isthmus"}})
}

/// The service of a cluster: it answers with the cluster's name as its version.
pub(super) fn service(cluster: &ClusterName, image: &str) -> [Value; 3] {
    let labels = json!({"app": SERVICE});
    let container = json!({
        "name": SERVICE,
        "image": image,
        "env": [{"name": "SERVICE_VERSION", "value": cluster.as_str()}],
        "ports": [{"containerPort": 5000}],
    });
    let namespace = json!({"app.kubernetes.io/managed-by": "isthmus", "istio-injection": "enabled"});
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": namespace}}),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(SERVICE),
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 5000}]},
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(SERVICE),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }),
    ]
}

/// A pod that calls the service, and leaves as its last words which version answered how often. Its container ends whether
/// its sidecar does or not.
pub(super) fn caller(cluster: &ClusterName, what: &What) -> Value {
    let requests = what.requests;
    let script = format!(
        "tries=0; until curl -fs -m 2 -o /dev/null http://localhost:15021/healthz/ready || [ $tries -ge 60 ]; do\n  \
         tries=$((tries + 1)); sleep 1\ndone\n\
         n=0; while [ $n -lt {requests} ]; do\n  n=$((n + 1))\n  \
         curl -s -m 5 http://{SERVICE}.{NAMESPACE}:5000/hello | sed -n 's/.*version: \\([^,]*\\),.*/\\1/p' | grep . || echo {LOST}\n\
         done | sort | uniq -c > /dev/termination-log\n"
    );
    let container = json!({"name": CALLER, "image": what.caller, "command": ["sh", "-c", script]});
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(CALLER),
        "spec": {"restartPolicy": "Never", "containers": [container]},
    });
    if let Some(fields) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        fields.insert("annotations".to_owned(), json!({"isthmus.dev/calls-from": cluster.as_str()}));
    }
    pod
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// What the caller says last, where this is what curl does each time.
    fn counted(curl: &str) -> String {
        let what = What {
            service: String::new(),
            caller: "curl".to_owned(),
            requests: 4,
            patience: std::time::Duration::ZERO,
            parallel: 1,
        };
        let pod = caller(&"eu-1".parse().unwrap(), &what);
        let script = pod.pointer("/spec/containers/0/command/2").and_then(Value::as_str).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (file, program) = (directory.path().join("log"), directory.path().join("curl"));
        std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{curl}\n", directory.path().display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let script = script.replace("/dev/termination-log", file.to_str().unwrap());
        let ended = Command::new("sh").args(["-c", &script]).env("PATH", path).status().unwrap();
        assert!(ended.success());
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_caller_counts_who_answers_and_how_often_nobody_does() {
        let by_turns = "case \"$*\" in *healthz*) exit 0;; esac\n\
                        echo x >> asked; n=$(wc -l < asked)\n\
                        case $n in 1) exit 28;; 2) v=eu-2;; *) v=eu-1;; esac\n\
                        echo \"Hello version: $v, instance: helloworld-7f9\"";
        let counted = super::super::counts(&counted(by_turns));
        let wanted = [("-", 1), ("eu-1", 2), ("eu-2", 1)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counted, wanted.into());
    }
}
